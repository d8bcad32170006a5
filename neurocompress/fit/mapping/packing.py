"""Pieces of small layers together on cores: bin packing with one number for each resource of a core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .synapse_counts import Ints
from .traffic import Floats

#: Pieces that are packed, the smallest; the others have a core each, which hardly ever costs one.
MOST_PIECES = 512
#: Pieces up to which the fewest cores are found exactly.
EXACT = 12
#: Moves of `closer` at most.
MOVES = 200


def packed(amounts: Ints, limits: Ints, kinds: Ints, alone: NDArray[np.bool_]) -> Ints:
    """(pieces,) a core for each piece, numbered in the order of the first pieces on them.

    amounts: (pieces, resources); limits: (resources,) of a core. kinds: only pieces of one kind share a core. alone:
    pieces that share with none, as do those beyond a limit. First-fit decreasing by each resource and by the largest
    share, the best of them; exact (HiGHS, through scipy) for few pieces where that is above the sum of the shares.
    """
    n = len(amounts)
    shares = amounts / np.maximum(limits, 1)
    largest = np.where((amounts > limits).any(axis=1) | alone, np.inf, shares.max(axis=1, initial=0.0))
    small = np.argsort(largest, kind="stable")[:MOST_PIECES]
    small = np.sort(small[np.isfinite(largest[small])])
    found = np.arange(n) + n
    for kind in np.unique(kinds[small]):
        which = small[kinds[small] == kind]
        found[which] = 2 * n + n * int(kind) + _best(amounts[which], limits, shares[which])
    return in_order(found)


def in_order(at: Ints) -> Ints:
    """The cores renumbered from 0 in the order of the first pieces on them."""
    _, first, number = np.unique(at, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first, kind="stable")] = np.arange(len(first))
    return order[number]


def closer(at: Ints, amounts: Ints, limits: Ints, may: NDArray[np.bool_], weight: Floats) -> Ints:
    """The same cores with pieces moved, or two of them swapped, as long as that keeps spikes on a core.

    at: (pieces,) cores; amounts, limits: as in `packed`. may: (pieces, pieces) whether two may share a core. weight:
    (pieces, pieces) spikes between two, symmetric. No core is emptied or made; what saves most goes first.
    """
    at, pieces = at.copy(), np.arange(len(at))
    for _ in range(MOVES):
        held = np.zeros((int(at.max()) + 1, amounts.shape[1]), dtype=np.int64)
        np.add.at(held, at, amounts)
        near = np.stack([weight[:, at == core].sum(axis=1) for core in range(len(held))], axis=1)  # (pieces, cores)
        gain = near - near[pieces, at][:, None]
        best = 1e-9
        change: list[tuple[int, int]] = []
        for a in np.flatnonzero((gain > 1e-9).any(axis=1)).tolist():
            for core in np.flatnonzero(gain[a] > 1e-9).tolist():
                there = pieces[at == core]
                fits = bool((held[core] + amounts[a] <= limits).all()) and bool(may[a, there].all())
                if fits and gain[a, core] > best and np.count_nonzero(at == at[a]) > 1:
                    best, change = float(gain[a, core]), [(a, core)]
                for b in there.tolist():
                    saves = gain[a, core] + gain[b, at[a]] - 2 * weight[a, b]
                    if saves > best and _swappable(a, b, at, held, amounts, limits, may):
                        best, change = float(saves), [(a, core), (b, int(at[a]))]
        if not change:
            break
        for piece, core in change:
            at[piece] = core
    return at


def _swappable(
    a: int, b: int, at: Ints, held: Ints, amounts: Ints, limits: Ints, may: NDArray[np.bool_]
) -> bool:
    first, second = at == at[a], at == at[b]
    first[a] = second[b] = False
    return bool((held[at[a]] - amounts[a] + amounts[b] <= limits).all()
                and (held[at[b]] - amounts[b] + amounts[a] <= limits).all()
                and may[a, second].all() and may[b, first].all())


def _best(amounts: Ints, limits: Ints, shares: NDArray[np.float64]) -> Ints:
    keys = [shares.max(axis=1, initial=0.0), shares.sum(axis=1), *shares.T]
    tried = [_first_fit(amounts, limits, np.argsort(-key, kind="stable")) for key in keys]
    best = min(tried, key=lambda at: int(at.max()))
    least = int(np.ceil(shares.sum(axis=0).max(initial=0.0) - 1e-9))
    if len(amounts) <= EXACT and int(best.max()) + 1 > max(1, least):
        return _exact(amounts, limits, int(best.max()) + 1, best)
    return best


def _first_fit(amounts: Ints, limits: Ints, order: Ints) -> Ints:
    at = np.zeros(len(amounts), dtype=np.int64)
    room = np.empty((len(amounts), len(limits)), dtype=np.int64)
    cores = 0
    for k in order:
        fits = np.flatnonzero((room[:cores] >= amounts[k]).all(axis=1))
        if not fits.size:
            room[cores] = limits
            fits = np.array([cores])
            cores += 1
        at[k] = fits[0]
        room[fits[0]] -= amounts[k]
    return at


def _exact(amounts: Ints, limits: Ints, cores: int, known: Ints) -> Ints:
    """Fewest cores below `cores`, or what is known: used[b], at[k, b] in {0, 1}."""
    from scipy import optimize, sparse

    n, bins, shares = len(amounts), cores - 1, amounts / np.maximum(limits, 1)
    one_each = sparse.hstack([sparse.csr_array((n, bins)), sparse.kron(sparse.eye_array(n), np.ones((1, bins)))])
    within = sparse.vstack([
        sparse.hstack([-sparse.eye_array(bins), sparse.kron(share[None], sparse.eye_array(bins))])
        for share in shares.T])
    earlier = np.arange(n)[:, None] >= np.arange(bins)  # piece k lies on one of the first k + 1 cores
    most = np.concatenate([np.ones(bins), earlier.ravel()])
    found = optimize.milp(
        np.concatenate([np.ones(bins), np.zeros(n * bins)]), integrality=np.ones(bins + n * bins),
        bounds=optimize.Bounds(0, most),
        constraints=[optimize.LinearConstraint(one_each, 1, 1), optimize.LinearConstraint(within, -np.inf, 0)])
    if found.x is None:
        return known
    at: Ints = np.rint(found.x[bins:]).reshape(n, bins).argmax(axis=1).astype(np.int64)
    held = np.zeros((bins, amounts.shape[1]), dtype=np.int64)
    np.add.at(held, at, amounts)
    return at if (held <= limits).all() else known  # the solver keeps limits to within a millionth
