"""Pruning of one weight matrix: which weights stay, and what they become to make up for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .hessian import damped
from .ordering import MEMORY, removal_losses
from .support import Spectrum, admm, largest, refit, spectrum

Ground = Spectrum | Tensor

#: Share of its weight with which an input that never spiked enters the ordering under a limit on fan-in. Its Hessian is
#: the damping alone; 1e-24 of the loss of an equal weight puts it behind all others, and |w| still orders such inputs
#: among themselves.
UNHEARD = 1e-12


@dataclass(frozen=True, eq=False)
class Pruned:
    """weight, mask: (rows, d). damping: the share that was needed to invert the Hessian. dead: inputs that never
    spiked in calibration; their weights go first."""

    weight: Tensor
    mask: Tensor
    damping: float
    dead: int


def prune(
    weight: Tensor, hessian: Tensor, widths: Sequence[int], keep: Sequence[int], *, support: str = "obs",
    compensate: bool = True, fan_in: int | None = None, importance: Tensor | None = None, block_in: int = 1,
    damping: float = 0.01, memory: int = MEMORY, known: Ground | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pruned:
    """A (rows, d) float64 matrix with keep[i] weights left in its i-th block of widths[i] columns.

    hessian: (groups, d, d), each for rows / groups rows. support: "magnitude", "obs" (exact ordering, importance x
    loss over all rows of a block) or "admm" (one group only; the ordering takes over elsewhere). fan_in: at most so
    many inputs of each row; the ones of least OBS loss go. compensate: refit what stays. memory: bytes for the
    ordering. known: the `ground` of the same weights, Hessian and support, where it is there already.
    """
    rows, d = weight.shape
    groups = len(hessian)
    live = hessian.diagonal(dim1=1, dim2=2).sum(0) > 0
    dead = int((~live).sum())
    scale = torch.ones(rows, dtype=weight.dtype) if importance is None else importance
    inverted = [damped(h, damping) for h in hessian]
    parts = [slice(g * (rows // groups), (g + 1) * (rows // groups)) for g in range(groups)]
    mask = torch.ones((rows, d), dtype=torch.bool)
    if sum(keep) < rows * d:
        if known is None:
            known = ground(weight, hessian, support, block_in=block_in, damping=damping, memory=memory,
                           progress=progress)
        tier = torch.zeros(weight.shape, dtype=torch.int8)
        if isinstance(known, Spectrum):
            score, tier = weight, _on_support(weight, known, live, widths, keep, scale)
        elif support == "magnitude":
            score = known * scale[:, None]
        else:
            score, tier = _by_loss(known, live, scale)
        blocks = (torch.split(a, list(widths), 1) for a in (score, tier))
        mask = torch.cat([largest(s, k, t) for s, t, k in zip(*blocks, keep, strict=True)], 1)
    if fan_in is not None:
        heard = torch.where(live, weight, weight * UNHEARD)
        for p, (h, _) in zip(parts, inverted, strict=True):
            mask[p] = limited(heard[p], h, mask[p], fan_in, memory)
    found = weight * mask
    if compensate and not bool(mask.all()):
        found = torch.cat([refit(weight[p], h, mask[p]) for p, (h, _) in zip(parts, inverted, strict=True)])
        found[:, ~live] = (weight * mask)[:, ~live]  # without a spike there is nothing to make up for
    return Pruned(found, mask, max(share for _, share in inverted), dead)


def ground(
    weight: Tensor, hessian: Tensor, support: str, *, block_in: int = 1, damping: float = 0.01, memory: int = MEMORY,
    progress: Callable[[int], None] | None = None,
) -> Ground:
    """What a choice of weights rests on, whatever their number: the spectrum for "admm" (one group only; the ordering
    takes over elsewhere), for "obs" the losses (rows, d) of the ordering, with |w| for inputs that never spiked, |w|
    for "magnitude"."""
    live = hessian.diagonal(dim1=1, dim2=2).sum(0) > 0
    if support == "magnitude":
        return weight.abs()
    if support == "admm" and len(hessian) == 1:
        index = torch.nonzero(live)[:, 0]
        return spectrum(damped(hessian[0], damping)[0][index][:, index])
    parts = torch.split(weight, len(weight) // len(hessian))
    return torch.cat([_losses(part, damped(h, damping)[0], live, block_in, memory, progress)
                      for part, h in zip(parts, hessian, strict=True)])


def _losses(
    weight: Tensor, hessian: Tensor, live: Tensor, block_in: int, memory: int, progress: Callable[[int], None] | None
) -> Tensor:
    """(rows, d): losses of the ordering, which inputs that never spiked take no part in; of these |w|."""
    score = weight.abs()
    index = torch.nonzero(live)[:, 0]
    inverse = torch.linalg.inv(hessian[index][:, index]).to(torch.float32)
    losses = removal_losses(weight[:, index], inverse, block_in=block_in, memory=memory, progress=progress)
    score[:, index] = losses.to(score.dtype)
    return score


def _by_loss(losses: Tensor, live: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and tiers (rows, d), in which weights stay:

    2. those that cost something, by importance x loss;
    1. those that cost nothing but may be refitted (zeros of inputs that spiked), by importance;
    0. those that can change nothing: of inputs that never spiked, by importance x |w|, and of rows without importance.
    """
    heard = live[None] & (importance > 0)[:, None]
    costs = heard & (losses > 0)
    score = torch.where(heard & ~costs, torch.ones_like(losses), losses) * importance[:, None]
    return score, heard.to(torch.int8) + costs.to(torch.int8)


def _on_support(
    weight: Tensor, of: Spectrum, live: Tensor, widths: Sequence[int], keep: Sequence[int], importance: Tensor
) -> Tensor:
    """Tiers (rows, d): 1 on the support of ADMM over the inputs that spiked, else 0, where the largest weights stay if
    there is room left."""
    index = torch.nonzero(live)[:, 0]
    inside = [int(block.sum()) for block in torch.split(live, list(widths))]
    room = [min(k, len(weight) * n) for k, n in zip(keep, inside, strict=True)]
    tier = torch.zeros(weight.shape, dtype=torch.int8)
    tier[:, index] = admm(weight[:, index] * importance.sqrt()[:, None], of, inside, room).to(torch.int8)
    return tier


def limited(weight: Tensor, hessian: Tensor, mask: Tensor, fan_in: int, memory: int = MEMORY) -> Tensor:
    """Mask (rows, d) within `mask` that leaves at most `fan_in` inputs to each row: exact OBS removes the others.

    Rows with all inputs left share one ordering; each other row starts from the inverse on its own support.
    """
    d = weight.shape[1]
    out = mask.clone()
    full = torch.nonzero(mask.all(1))[:, 0]
    if len(full) and fan_in < d:
        inverse = torch.linalg.inv(hessian).to(torch.float32)
        losses = removal_losses(weight[full], inverse, removals=d - fan_in, memory=memory)
        out[full] = torch.isinf(losses)
    start = refit(weight, hessian, mask)
    for row in torch.nonzero((mask.sum(1) > fan_in) & ~mask.all(1))[:, 0].tolist():
        index = torch.nonzero(mask[row])[:, 0]
        inverse = torch.linalg.inv(hessian[index][:, index])
        losses = removal_losses(start[row, index][None], inverse, removals=len(index) - fan_in)
        out[row, index] = torch.isinf(losses)[0]
    return out
