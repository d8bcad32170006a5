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
        if isinstance(known, Spectrum):
            score = _admm_scores(weight, known, live, widths, keep, scale)
        else:
            score = known * scale[:, None]
        mask = torch.cat([largest(s, k) for s, k in zip(torch.split(score, list(widths), 1), keep, strict=True)], 1)
    if fan_in is not None:
        heard = torch.where(live, weight, weight * 1e-12)  # what never spiked takes no place of what did
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
    takes over elsewhere), the losses (rows, d) of the ordering for "obs", |w| for "magnitude"."""
    live = hessian.diagonal(dim1=1, dim2=2).sum(0) > 0
    if support == "magnitude":
        return weight.abs()
    if support == "admm" and len(hessian) == 1:
        index = torch.nonzero(live)[:, 0]
        return spectrum(damped(hessian[0], damping)[0][index][:, index])
    parts = torch.split(weight, len(weight) // len(hessian))
    return torch.cat([_obs_scores(part, damped(h, damping)[0], live, block_in, memory, progress)
                      for part, h in zip(parts, hessian, strict=True)])


def _obs_scores(
    weight: Tensor, hessian: Tensor, live: Tensor, block_in: int, memory: int, progress: Callable[[int], None] | None
) -> Tensor:
    """Losses of the ordering; inputs that never spike are removed before it, the smallest weights first."""
    score = weight.abs() * 1e-300
    index = torch.nonzero(live)[:, 0]
    inverse = torch.linalg.inv(hessian[index][:, index]).to(torch.float32)
    losses = removal_losses(weight[:, index], inverse, block_in=block_in, memory=memory, progress=progress)
    score[:, index] = losses.to(score.dtype) + 1e-290
    return score


def _admm_scores(
    weight: Tensor, of: Spectrum, live: Tensor, widths: Sequence[int], keep: Sequence[int], scale: Tensor
) -> Tensor:
    """2 on the support of ADMM, below it |w| scaled to less than 1."""
    index = torch.nonzero(live)[:, 0]
    inside = [int(block.sum()) for block in torch.split(live, list(widths))]
    room = [min(k, len(weight) * n) for k, n in zip(keep, inside, strict=True)]
    score = weight.abs() / (2 * float(weight.abs().max()) or 1.0)
    found = admm(weight[:, index] * scale.sqrt()[:, None], of, inside, room)
    score[:, index] += 2.0 * found
    return score


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
