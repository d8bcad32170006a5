"""The samples that compression and learning may fit, and those that judge: divided once, before anything is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: One sample of so many judges.
HELD_OUT = 10
#: Fewest samples from which a network learns its original's outputs: a tenth of them must judge.
DISTILL_SAMPLES = 50


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """spikes: (samples, timesteps, *input shape). labels: (samples,) int, or None. judges: (samples,) bool, the samples
    that nothing is fitted to, because they say which of several results is best; none where nothing is judged.

    Compression fits its samples: judged by them, a network that was compressed well looks better than it is, and most
    of what it could learn is turned down.
    """

    spikes: np.ndarray
    labels: np.ndarray | None
    judges: NDArray[np.bool_]

    @classmethod
    def of(
        cls, spikes: np.ndarray, epochs: int, labels: np.ndarray | None = None, fewest: int = DISTILL_SAMPLES
    ) -> CalibrationSet:
        """A tenth of the samples judges where epochs of learning may follow and there are at least `fewest`."""
        learns = epochs > 0 and len(spikes) >= fewest
        return cls(spikes, labels, held_out(len(spikes)) if learns else np.zeros(len(spikes), dtype=bool))

    @cached_property
    def fit(self) -> np.ndarray:
        """The samples that do not judge."""
        return self.spikes[~self.judges] if self.judges.any() else self.spikes

    @property
    def judged(self) -> bool:
        return bool(self.judges.any())


def held_out(n: int) -> NDArray[np.bool_]:
    """(n,) which of so many samples judge: every tenth, at least one."""
    found = np.zeros(n, dtype=bool)
    found[HELD_OUT - 1 :: HELD_OUT] = True
    found[-1:] = found[-1:] | (n < HELD_OUT)
    return found


@dataclass(frozen=True)
class Split:
    """Which samples calibrated. source: where they came from; synthetic when there was no data.
    indices: into the data, None for synthetic ones."""

    source: str
    samples: int
    synthetic: bool
    indices: tuple[int, ...] | None
