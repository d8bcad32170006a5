"""Which weights stay: an open table of ways to choose a support. A new one is a function with the decorator
`support`, in any file that recipes find through the entry point group of `methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .hessian import damped
from .ordering import MEMORY, removal_losses
from .support import Spectrum, admm, spectrum


class Ground(Protocol):
    """What a choice of weights rests on, whatever their number."""

    def ranked(
        self, weight: Tensor, live: Tensor, widths: Sequence[int], keep: Sequence[int], importance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores and tiers (rows, d): those stay that are of the highest tier, and in it of the largest |score|.

        live: (d,) bool, inputs that spiked. keep[i] weights are to stay in the i-th block of widths[i] columns.
        importance: (rows,) what a row's error counts.
        """


@dataclass(frozen=True)
class Choosing:
    """What a choice may take into account beside the weights and their Hessian."""

    #: Weights that a row loses at once in the OBS ordering.
    block_in: int = 1
    #: Added to the Hessian's diagonal, as a share of its mean.
    damping: float = 0.01
    #: Bytes for the ordering.
    memory: int = MEMORY
    #: Called with the rows that are done.
    progress: Callable[[int], None] | None = None


Support = Callable[[Tensor, Tensor, Choosing], Ground]

#: By name: a function of the weights (rows, d) and the Hessian (groups, d, d), both float64.
SUPPORTS: dict[str, Support] = {}


def support(name: str) -> Callable[[Support], Support]:
    """Registers a way to choose weights under a name that recipes and methods can give."""

    def register(found: Support) -> Support:
        if SUPPORTS.get(name, found) is not found:
            raise ValueError(f"there is a support '{name}' already")
        SUPPORTS[name] = found
        return found

    return register


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """The largest numbers stay, by importance x size."""

    #: (rows, d), not negative.
    size: Tensor

    def ranked(
        self, weight: Tensor, live: Tensor, widths: Sequence[int], keep: Sequence[int], importance: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.size * importance[:, None], torch.zeros(weight.shape, dtype=torch.int8)


@dataclass(frozen=True, eq=False)
class Losses:
    """The weights stay whose removal costs most."""

    #: (rows, d) of the exact OBS ordering; |w| for inputs that never spiked, which take no part in it.
    losses: Tensor

    def ranked(
        self, weight: Tensor, live: Tensor, widths: Sequence[int], keep: Sequence[int], importance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tiers:

        2. weights that cost something, by importance x loss;
        1. those that cost nothing but may be refitted (zeros of inputs that spiked), by importance;
        0. those that can change nothing: of inputs that never spiked, by importance x |w|, and of rows without
           importance.
        """
        heard = live[None] & (importance > 0)[:, None]
        costs = heard & (self.losses > 0)
        score = torch.where(heard & ~costs, torch.ones_like(self.losses), self.losses) * importance[:, None]
        return score, heard.to(torch.int8) + costs.to(torch.int8)


@dataclass(frozen=True, eq=False)
class OnSpectrum:
    """The support that ADMM finds on one Hessian's spectrum, over the inputs that spiked; where there is room left, the
    largest weights."""

    #: Of the damped Hessian of the inputs that spiked.
    spectrum: Spectrum

    def ranked(
        self, weight: Tensor, live: Tensor, widths: Sequence[int], keep: Sequence[int], importance: Tensor
    ) -> tuple[Tensor, Tensor]:
        index = torch.nonzero(live)[:, 0]
        inside = [int(block.sum()) for block in torch.split(live, list(widths))]
        room = [min(k, len(weight) * n) for k, n in zip(keep, inside, strict=True)]
        tier = torch.zeros(weight.shape, dtype=torch.int8)
        scaled = weight[:, index] * importance.sqrt()[:, None]
        tier[:, index] = admm(scaled, self.spectrum, inside, room).to(torch.int8)
        return weight, tier


@support("magnitude")
def by_magnitude(weight: Tensor, hessian: Tensor, how: Choosing) -> Ground:
    """The largest |w| (Han et al. 2015)."""
    return Magnitudes(weight.abs())


@support("obs")
def by_removal(weight: Tensor, hessian: Tensor, how: Choosing) -> Ground:
    """One removal after the other, each of least loss (SBC, arXiv 2506.03996, algorithms 1 and 2, that is OBC, arXiv
    2208.11580, with the losses of all rows compared); see ordering."""
    live = spiked(hessian)
    index = torch.nonzero(live)[:, 0]
    losses = weight.abs()
    rows = len(weight) // len(hessian)
    for g, part in enumerate(hessian):
        inverse = torch.linalg.inv(damped(part, how.damping)[0][index][:, index]).to(torch.float32)
        found = removal_losses(weight[g * rows : (g + 1) * rows, index], inverse, block_in=how.block_in,
                               memory=how.memory, progress=how.progress)
        losses[g * rows : (g + 1) * rows, index] = found.to(losses.dtype)
    return Losses(losses)


@support("admm")
def by_splitting(weight: Tensor, hessian: Tensor, how: Choosing) -> Ground:
    """ALPS (arXiv 2406.07831), see support.admm. One group only; the ordering takes over elsewhere."""
    if len(hessian) > 1:
        return by_removal(weight, hessian, how)
    index = torch.nonzero(spiked(hessian))[:, 0]
    return OnSpectrum(spectrum(damped(hessian[0], how.damping)[0][index][:, index]))


def spiked(hessian: Tensor) -> Tensor:
    """(d,) bool, inputs that spiked in calibration, of a Hessian (groups, d, d) before damping."""
    return hessian.diagonal(dim1=1, dim2=2).sum(0) > 0
