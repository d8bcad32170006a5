"""Lava programs for Loihi 2, simulated bit by bit by lava-nc 0.10.0 on Python 3.10."""

from .emit import emit
from .limits import refusals
from .run import LavaRun, run

__all__ = ["LavaRun", "emit", "refusals", "run"]
