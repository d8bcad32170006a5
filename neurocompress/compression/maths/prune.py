"""Pruning of one weight matrix: which weights stay, and what they become to make up for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .hessian import damped
from .ordering import MEMORY, removal_losses
from .support import largest, refit
from .supports import SUPPORTS, Choosing, Ground, spiked

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
    compensate: bool = True, fan_in: int | None = None, importance: Tensor | None = None,
    how: Choosing = Choosing(), known: Ground | None = None,  # noqa: B008 (it is frozen)
) -> Pruned:
    """A (rows, d) float64 matrix with keep[i] weights left in its i-th block of widths[i] columns.

        mask = the highest of a support's tiers and scores, in each block of columns      (rows, d)   see supports
        q_S  = H_SS^-1 (H w)_S    on each row's support S, 0 elsewhere                    (rows, d)   see refit

    hessian: (groups, d, d), each for rows / groups rows. support: a name of SUPPORTS. fan_in: at most so many inputs of
    each row; the ones of least OBS loss go. compensate: refit what stays. importance: (rows,) what a row's error
    counts. known: what the support rests on for the same weights and Hessian, where it is there already.
    """
    rows, d = weight.shape
    groups = len(hessian)
    live = spiked(hessian)
    dead = int((~live).sum())
    scale = torch.ones(rows, dtype=weight.dtype) if importance is None else importance
    inverted = [damped(h, how.damping) for h in hessian]
    parts = [slice(g * (rows // groups), (g + 1) * (rows // groups)) for g in range(groups)]
    mask = torch.ones((rows, d), dtype=torch.bool)
    if sum(keep) < rows * d:
        found = SUPPORTS[support](weight, hessian, how) if known is None else known
        score, tier = found.ranked(weight, live, widths, keep, scale)
        blocks = (torch.split(a, list(widths), 1) for a in (score, tier))
        mask = torch.cat([largest(s, k, t) for s, t, k in zip(*blocks, keep, strict=True)], 1)
    if fan_in is not None:
        heard = torch.where(live, weight, weight * UNHEARD)
        for p, (h, _) in zip(parts, inverted, strict=True):
            mask[p] = limited(heard[p], h, mask[p], fan_in, how.memory)
    kept = weight * mask
    if compensate and not bool(mask.all()):
        kept = torch.cat([refit(weight[p], h, mask[p]) for p, (h, _) in zip(parts, inverted, strict=True)])
        kept[:, ~live] = (weight * mask)[:, ~live]  # without a spike there is nothing to make up for
    return Pruned(kept, mask, max(share for _, share in inverted), dead)


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
