"""Spikes from files and event recordings."""

from .arrays import read_arrays, save_arrays
from .events import Events, Recordings, from_tonic, load_events
from .frames import events_to_spikes, frames
from .spikes import SpikeData, load_spikes, poisson

__all__ = [
    "Events", "Recordings", "SpikeData", "events_to_spikes", "frames", "from_tonic", "load_events", "load_spikes",
    "poisson", "read_arrays", "save_arrays",
]
