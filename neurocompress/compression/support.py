"""Which weights of a layer stay (its support), and the best values on a given support.

All functions see one layer as rows (outputs) x d (inputs) with one damped Hessian (d, d) for all rows; the loss is
sum over rows of (w - q) H (w - q)^T / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Bytes of the systems that `refit` solves at the same time.
MEMORY = 2**28
#: Iterations of ADMM at most; it ends earlier, when the support stays.
ITERATIONS = 300


def smallest_removed(losses: Tensor, keep: int) -> Tensor:
    """Mask (rows, d) that keeps the `keep` weights of largest loss over all rows; ties by position (algorithm 2)."""
    order = torch.argsort(losses.flatten(), descending=True, stable=True)
    mask = torch.zeros(losses.numel(), dtype=torch.bool, device=losses.device)
    mask[order[:keep]] = True
    return mask.reshape(losses.shape)


def largest(weight: Tensor, keep: int) -> Tensor:
    """Mask (rows, d) that keeps the `keep` largest |w|; ties by position."""
    return smallest_removed(weight.abs(), keep)


def at_most(losses: Tensor, fan_in: int, mask: Tensor | None = None) -> Tensor:
    """Mask (rows, d) with at most `fan_in` inputs in each row, those of largest loss, within `mask`."""
    losses = losses if mask is None else losses.masked_fill(~mask, -1.0)
    order = torch.argsort(losses, dim=1, descending=True, stable=True)[:, :fan_in]
    kept = torch.zeros_like(losses, dtype=torch.bool).scatter_(1, order, True)
    return kept if mask is None else kept & mask


def refit(weight: Tensor, hessian: Tensor, mask: Tensor, memory: int = MEMORY) -> Tensor:
    """The rows q with q = 0 outside `mask` that minimize (w - q) H (w - q)^T: least squares on each row's support.

    Group OBS (algorithm 2, step 2) gives the same numbers; this solves H_SS q_S = (H w)_S, which is the smaller
    system at high sparsity. float64 throughout.
    """
    rows = len(weight)
    target = weight @ hessian
    counts = mask.sum(1)
    out = torch.zeros_like(weight)
    order = torch.argsort(counts, stable=True).tolist()
    sizes = counts.tolist()
    start = 0
    while start < rows:
        end = start + 1
        while end < rows and (end + 1 - start) * 2 * 8 * max(1, sizes[order[end]]) ** 2 <= memory:
            end += 1
        part = torch.tensor(order[start:end], device=weight.device)
        size = sizes[order[end - 1]]
        start = end
        if not size:
            continue
        used = torch.arange(size, device=weight.device)[None] < counts[part][:, None]
        index = torch.argsort((~mask[part]).to(torch.uint8), dim=1, stable=True)[:, :size]
        system = hessian[index[:, :, None], index[:, None]]
        system *= used[:, :, None] & used[:, None]
        system += torch.diag_embed((~used).to(system.dtype))
        value = torch.cholesky_solve(
            (target[part].gather(1, index) * used)[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
        out[part] = torch.zeros_like(out[part]).scatter_(1, index, value * used)
    return out * mask


def admm(weight: Tensor, hessian: Tensor, keep: int, iterations: int = ITERATIONS) -> Tensor:
    """Mask (rows, d) of a good support of `keep` weights over all rows, by ADMM on the layer's loss.

    Alternates the unconstrained minimum with the projection onto `keep` weights (ALPS, arXiv 2406.07831, sections
    3.1 and 3.2: Hessian scaled to a unit diagonal, one eigendecomposition, rising penalty until the support stays).
    """
    scale = hessian.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(hessian / (scale[:, None] * scale[None]))
    vectors, values = vectors.to(torch.float32), values.clamp_min(0).to(torch.float32)
    scaled = (weight * scale).to(torch.float32)
    goal = ((scaled @ vectors) * values) @ vectors.T  # W H
    kept, dual = _project(scaled, keep), torch.zeros_like(scaled)
    penalty, mask = 0.1, kept != 0
    before = mask
    for round_ in range(1, iterations + 1):
        free = (((goal - dual + penalty * kept) @ vectors) / (values + penalty)) @ vectors.T
        kept = _project(free + dual / penalty, keep)
        dual = dual + penalty * (free - kept)
        mask = kept != 0
        if round_ % 3 == 0:
            changed = int((mask ^ before).sum())
            if changed == 0:
                break
            penalty *= 1.3 if changed >= 0.1 * keep else 1.2 if changed >= 0.005 * keep else 1.1
            before = mask
    return mask


def _project(weight: Tensor, keep: int) -> Tensor:
    """The `keep` largest numbers; all others zero."""
    if keep <= 0:
        return torch.zeros_like(weight)
    top = torch.topk(weight.abs().flatten(), keep, sorted=False).indices
    out = torch.zeros(weight.numel(), dtype=weight.dtype, device=weight.device)
    out[top] = weight.flatten()[top]
    return out.reshape(weight.shape)
