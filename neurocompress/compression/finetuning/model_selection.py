"""Whether training made a network better: judged by samples that neither it nor the compression before it has seen."""

from __future__ import annotations

import numpy as np

from ...network.nodes import Array


class Judge:
    """Which epoch is the best, by the outputs' losses of held-out samples, (samples,)."""

    def __init__(self, start: Array, labels: bool):
        self.start, self.labels = start, labels
        self.chosen, self.found = 0, start

    def better(self, now: Array, epoch: int) -> bool:
        """Whether an epoch is the best so far. With labels, its loss is the lowest; without, surely lower than at the
        start. The latest such epoch counts: what few samples say of the difference between two epochs is chance."""
        if not (now.mean() < self.found.mean() if self.labels else surely_lower(now, self.start)):
            return False
        self.chosen, self.found = epoch, now
        return True

    def note(self, epochs: int, trained: int) -> str:
        """What was found, as a sentence. trained: samples."""
        what = "fine-tuning" if self.labels else "learning the original's outputs"
        before, samples = f"{self.start.mean():.4g}", len(self.start)
        if self.chosen == 0:
            lower = "a lower" if self.labels else "a surely lower"
            return (f"{what} changed nothing: none of {epochs} epochs had {lower} loss than the start ({before}) on "
                    f"{samples} held-out samples")
        return (f"{what} on {trained} samples, epoch {self.chosen} of {epochs}: loss on {samples} held-out samples "
                f"{before} -> {self.found.mean():.4g}")


def surely_lower(after: Array, before: Array) -> bool:
    """Whether the mean loss fell by more than a standard error of the paired differences, (samples,) each.

    A smaller gain on a few held-out samples is chance, and outputs that only seem nearer to a teacher's cost accuracy
    (the one-standard-error rule; Breiman et al. 1984, section 3.4.3).
    """
    fell = before - after
    if len(fell) < 2:
        return bool(fell.mean() > 0)
    return bool(fell.mean() > fell.std(ddof=1) / np.sqrt(len(fell)))
