"""What the float simulator needs in order to run under autograd; without it, it runs in place and faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Learning:
    """weights: by node, the (weight, bias or None) that stand in for a Linear or Conv node's own.

    surrogate(distance, spikes): `spikes` as they are, with a gradient with respect to `distance`, which is how far
    a potential lies above the nearest point where it sends one spike more, in thresholds. Resets that subtract pass
    their spikes' gradient: an input that made a spike is spent; where nothing leaks, it would else count in every later
    step. Resets to a value pass none (Zenke & Vogels 2021).
    """

    weights: Mapping[str, tuple[Tensor, Tensor | None]]
    surrogate: Callable[[Tensor, Tensor], Tensor]
