"""The order in which Optimal Brain Surgeon removes the weights of a layer, and what each removal costs.

Exact OBS takes one weight p after the other out of a row w (d,) with inverse Hessian H^-1 (d, d) of the inputs left:

    p     = argmin w_p^2 / [H^-1]_pp                      ()       twice what the row's loss rises by
    w     = w - w_p / [H^-1]_pp  H^-1_p                   (d,)     the others make up for it; w_p is 0 then
    H^-1  = H^-1 - H^-1_p^T H^-1_p / [H^-1]_pp            (d, d)   input p is out

(Hassibi and Stork 1993; row by row: Frantar and Alistarh 2022, arXiv 2208.11580, section 4, lemma 1). With a block P of
B_in weights at a time (Spiking Brain Compression, arXiv 2506.03996, algorithm 1):

    w     = w - w_P ([H^-1]_PP)^-1 H^-1_P                 (d,)
    H^-1  = H^-1 - H^-1_P^T ([H^-1]_PP)^-1 H^-1_P         (d, d)

A removal changes the d x d inverse by one outer product. These products are gathered and applied as one matrix
product (as GPTQ does for columns), so that the work runs at the speed of matrix multiplication and the result stays
that of one removal at a time: choosing the next weight needs only the diagonal and one column, both exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Removals that are gathered before the inverse is updated.
LAZY = 64
#: Rows in flight share this many bytes when the caller states no budget.
MEMORY = 2**30


def removal_losses(
    weight: Tensor, inverse: Tensor, *, block_in: int = 1, removals: int | None = None, memory: int = MEMORY,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """w_p^2 / [H^-1]_pp of every weight when OBS removed it, (rows, d) of the dtype of `inverse`; infinite where it was
    kept. With blocks of several weights, what each would have cost alone.

    weight: (rows, d). inverse: (d, d), of the damped Hessian of all rows. block_in: weights that a row loses
    together (B_in of the paper's algorithm 1; 1 is exact OBS). removals: per row, d without it. memory: bytes for
    the rows in flight (B_out of them; never fewer than one row, 2 d^2 numbers). progress is told the rows done.
    """
    rows, d = weight.shape
    count = d if removals is None else min(removals, d)
    size = 2 * d * d * inverse.element_size()
    step = max(1, min(rows, memory // max(1, size)))
    out = torch.full((rows, d), torch.inf, dtype=inverse.dtype, device=inverse.device)
    work = inverse.new_empty((step, d, d))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        _remove(weight[part].to(inverse.dtype), inverse, block_in, count, out[part], work[: part.stop - start])
        if progress:
            progress(part.stop)
    return out


def _remove(w: Tensor, inverse: Tensor, block: int, count: int, losses: Tensor, work: Tensor) -> None:
    rows, m = w.shape
    every = torch.arange(rows, device=w.device)
    lazy = max(LAZY, min(block, count))
    h, shared = inverse.expand(rows, m, m), True  # one for all rows until the first removals are applied
    w = w.clone()
    diagonal = inverse.diagonal().expand(rows, m).clone()
    index = torch.arange(m, device=w.device).expand(rows, m)
    alive = torch.ones((rows, m), dtype=torch.bool, device=w.device)
    pending = torch.zeros((rows, lazy, m), dtype=w.dtype, device=w.device)
    used = removed = gone = 0
    score = torch.empty_like(w)
    while removed < count:
        n = min(block, count - removed)
        torch.div(w.square(), diagonal, out=score)
        score.masked_fill_(~alive, torch.inf)
        if n == 1:
            loss, p = score.min(1)
            column = h[every, p]
            if used:
                at = pending[:, :used].gather(2, p[:, None, None].expand(-1, used, 1))
                column = torch.baddbmm(column[:, None], at.transpose(1, 2), pending[:, :used], alpha=-1)[:, 0]
            pivot = diagonal.gather(1, p[:, None]).rsqrt()
            column = column * pivot
            pending[:, used] = column
            w -= column * (w.gather(1, p[:, None]) * pivot)
            diagonal -= column.square()
            losses.scatter_(1, index.gather(1, p[:, None]), loss[:, None])
            alive[every, p] = False
        else:
            loss, p = score.topk(n, dim=1, largest=False)
            columns = h[every[:, None], p]
            if used:
                at = pending[:, :used].gather(2, p[:, None].expand(-1, used, -1))
                columns = torch.baddbmm(columns, at.transpose(1, 2), pending[:, :used], alpha=-1)
            factor = torch.linalg.cholesky(columns.gather(2, p[:, None].expand(-1, n, -1)))
            columns = torch.linalg.solve_triangular(factor, columns, upper=False)
            value = torch.linalg.solve_triangular(factor, w.gather(1, p)[:, :, None], upper=False)
            pending[:, used : used + n] = columns
            w -= (columns * value).sum(1)
            diagonal -= columns.square().sum(1)
            losses.scatter_(1, index.gather(1, p), loss)
            alive.scatter_(1, p, False)
        used, removed, gone = used + n, removed + n, gone + n
        if used + block > lazy and removed < count:
            if shared:
                h = torch.baddbmm(h, pending[:, :used].transpose(1, 2), pending[:, :used], alpha=-1, out=work)
                shared = False
            else:
                h.baddbmm_(pending[:, :used].transpose(1, 2), pending[:, :used], alpha=-1)
            used, m = 0, m - gone
            # what is alive in the last columns moves into the gaps, and the matrix is cut: no copy of the rest
            gaps = (~alive).nonzero()[:, 1].reshape(rows, gone)
            tail = m + torch.argsort((~alive[:, m:]).to(torch.uint8), dim=1, stable=True)
            h[every[:, None], gaps] = h[every[:, None], tail]
            at, source = (a[:, None].expand(-1, h.shape[1], -1) for a in (gaps, tail))
            h.scatter_(2, at, h.gather(2, source))
            h, pending, gone = h[:, :m, :m], pending[:, :, :m], 0
            w, diagonal, index = (
                a.scatter(1, gaps, a.gather(1, tail))[:, :m] for a in (w, diagonal, index))
            alive = torch.ones((rows, m), dtype=torch.bool, device=w.device)
            score = torch.empty_like(w)
