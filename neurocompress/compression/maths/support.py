"""Which weights of a layer stay (its support), and the best values on a given support.

All functions see one layer as rows (outputs) x d (inputs) with one damped Hessian (d, d) for all rows; the loss is
sum over rows of (w - q) H (w - q)^T / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Bytes of the systems that `refit` solves at the same time.
MEMORY = 2**28
#: Iterations of ADMM at most; it ends earlier, when the support stays.
ITERATIONS = 300


def largest(score: Tensor, keep: int, tier: Tensor | None = None) -> Tensor:
    """Mask (rows, d) of the `keep` largest |score| over all rows; ties by position.

    tier: (rows, d) small integers from 0: what is in a higher tier stays first, whatever its score.
    With the losses of the ordering this is the mask of SBC's algorithm 2, with the weights that of magnitude pruning.
    """
    order = torch.argsort(score.abs().flatten(), descending=True, stable=True)
    if tier is not None and bool(tier.any()):
        of = tier.flatten()[order]
        order = torch.cat([order[of == t] for t in range(int(of.max()), -1, -1)])
    mask = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    mask[order[:keep]] = True
    return mask.reshape(score.shape)


def refit(weight: Tensor, hessian: Tensor, mask: Tensor, memory: int = MEMORY) -> Tensor:
    """The rows q with q = 0 outside `mask` that minimize (w - q) H (w - q)^T: float64 (rows, d).

    Row by row, with S its support:

        H_SS q_S = (H w)_S              (|S|, |S|) (|S|,) = (|S|,)

    Group OBS (SBC, arXiv 2506.03996, algorithm 2, step 2), with P the pruned weights,

        q = w - w_P ([H^-1]_PP)^-1 H^-1_P       (d,)

    gives the same numbers; the system on S is the smaller one at high sparsity. weight: (rows, d), hessian: (d, d)
    damped, both float64. mask: (rows, d) bool. memory: bytes of the systems that are solved at the same time.
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


class Spectrum(NamedTuple):
    """scale: root of the Hessian's diagonal (d,), float64; values (d,), vectors (d, d) of the Hessian scaled to a unit
    diagonal, float32."""

    scale: Tensor
    values: Tensor
    vectors: Tensor


def spectrum(hessian: Tensor) -> Spectrum:
    """Of a damped Hessian (d, d) float64, scaled by s = diag(H)^(1/2) so that no input counts more for being frequent:

        V diag(lambda) V^T = H / (s s^T)        (d, d)
    """
    scale = hessian.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(hessian / (scale[:, None] * scale[None]))
    return Spectrum(scale, values.clamp_min(0).to(torch.float32), vectors.to(torch.float32))


def admm(
    weight: Tensor, of: Spectrum, widths: Sequence[int], keep: Sequence[int], iterations: int = ITERATIONS
) -> Tensor:
    """Mask (rows, d) of a good support with keep[i] weights in the i-th block of widths[i] columns, by ADMM.

    Alternates the unconstrained minimum with the projection P onto the `keep` largest weights of each block (ALPS, Meng
    et al. 2024, arXiv 2406.07831, sections 3.1 and 3.2; ADMM: Boyd et al. 2011, section 3.1). With W' = W s and
    H' = V diag(lambda) V^T the scaled weights and Hessian of `spectrum`, D the weights that keep the constraint,
    U their dual and rho the penalty:

        A   = (W' H' - U + rho D) V diag(1 / (lambda + rho)) V^T        (rows, d)   least loss near D
        D   = P(A + U / rho)                                            (rows, d)
        U   = U + rho (A - D)                                           (rows, d)
        rho = 1.3, 1.2 or 1.1 rho, every third round                    ()          the more, the more of D changed

    One eigendecomposition serves all rounds, because rho only shifts the spectrum. It ends when a support lasts for
    three rounds. The values are left to `refit`. float32: what is chosen is a mask.
    """
    scale, values, vectors = of
    scaled = (weight * scale).to(torch.float32)
    goal = ((scaled @ vectors) * values) @ vectors.T  # W H
    kept, dual, penalty = _project(scaled, widths, keep), torch.zeros_like(scaled), 0.1
    before = kept != 0
    for round_ in range(1, iterations + 1):
        free = (((goal - dual + penalty * kept) @ vectors) / (values + penalty)) @ vectors.T
        kept = _project(free + dual / penalty, widths, keep)
        dual = dual + penalty * (free - kept)
        if round_ % 3 == 0:
            changed = int(((kept != 0) ^ before).sum())
            if changed == 0:
                break
            penalty *= 1.3 if changed >= 0.1 * sum(keep) else 1.2 if changed >= 0.005 * sum(keep) else 1.1
            before = kept != 0
    return kept != 0


def _project(weight: Tensor, widths: Sequence[int], keep: Sequence[int]) -> Tensor:
    """The keep[i] largest numbers of each block of columns; all others zero."""
    parts = []
    for block, k in zip(torch.split(weight, list(widths), dim=1), keep, strict=True):
        flat = block.flatten()
        top = torch.topk(flat.abs(), k, sorted=False).indices
        parts.append(torch.zeros_like(flat).scatter_(0, top, flat[top]).reshape(block.shape))
    return torch.cat(parts, dim=1)
