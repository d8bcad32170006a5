"""Whether training made a network better: judged by samples that neither it nor the compression before it has seen.

Compression fits its calibration samples: judged by them, a network that was compressed well looks better than it is,
and most of what it could learn is turned down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..network.nodes import Array

#: One sample of so many is held out.
HELD_OUT = 10


def held_out(n: int) -> NDArray[np.bool_]:
    """(n,) which of so many samples judge: every tenth, at least one."""
    found = np.zeros(n, dtype=bool)
    found[HELD_OUT - 1 :: HELD_OUT] = True
    found[-1:] = found[-1:] | (n < HELD_OUT)
    return found


class Judge:
    """Which epoch is the best, by losses of held-out samples, (kinds, samples)."""

    def __init__(self, start: Array, labels: bool):
        self.start, self.labels = start, labels
        self.chosen, self.found = 0, start

    def better(self, now: Array, epoch: int) -> bool:
        """Whether an epoch is the best so far. With labels, its loss is the lowest; without, surely lower than at the
        start: that of the outputs, or that of the hidden spikes while that of the outputs is not surely higher. The
        latest such epoch counts: what few samples say of the difference between two epochs is chance."""
        (outputs, *hidden), (before, *hidden_before) = now, self.start
        sure = surely_lower(outputs, before) or (
            any(map(surely_lower, hidden, hidden_before)) and not surely_lower(before, outputs))
        if not (now.mean(1).sum() < self.found.mean(1).sum() if self.labels else sure):
            return False
        self.chosen, self.found = epoch, now
        return True

    def note(self, epochs: int, trained: int) -> str:
        """What was found, as a sentence. trained: samples."""
        what = "fine-tuning" if self.labels else "learning the original's outputs"
        before = [f"{x:.4g}" for x in self.start.mean(1)]
        if self.chosen == 0:
            lower = "a lower" if self.labels else "a surely lower"
            return (f"{what} changed nothing: none of {epochs} epochs had {lower} loss than the start "
                    f"({', '.join(before)}) on {self.start.shape[1]} held-out samples")
        changes = [f"{x} -> {y:.4g}" for x, y in zip(before, self.found.mean(1), strict=True)]
        kinds = "" if len(changes) == 1 else " (outputs, hidden spikes)"
        return (f"{what} on {trained} samples, epoch {self.chosen} of {epochs}: loss on {self.start.shape[1]} held-out "
                f"samples{kinds} {', '.join(changes)}")


def surely_lower(after: Array, before: Array) -> bool:
    """Whether the mean loss fell by more than a standard error of the paired differences, (samples,) each.

    A smaller gain on a few held-out samples is chance, and outputs that only seem nearer to a teacher's cost accuracy
    (the one-standard-error rule; Breiman et al. 1984, section 3.4.3).
    """
    fell = before - after
    if len(fell) < 2:
        return bool(fell.mean() > 0)
    return bool(fell.mean() > fell.std(ddof=1) / np.sqrt(len(fell)))
