"""Spikes from files and event recordings."""

from .arrays import read_arrays, save_arrays
from .spikes import SpikeData, load_spikes, poisson

__all__ = ["SpikeData", "load_spikes", "poisson", "read_arrays", "save_arrays"]
