"""What pruning is expected to leave, against plain sorting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from neurocompress.fit.mapping.expected_pruning import BLOCK, EVERY, Pruner, limited
from neurocompress.network.connections import Connection

WEIGHTS = st.lists(st.integers(-4, 4), min_size=1, max_size=40)


def connection(values: list[int]) -> Connection:
    weight = np.array(values, dtype=np.float32)[None]
    return Connection("w", "a", "b", weight, None, None, (len(values),), (1,))


@settings(max_examples=200, deadline=None)
@given(values=WEIGHTS, shares=st.lists(st.floats(0, 1), min_size=1, max_size=4), thin=st.booleans())
def test_the_smallest_go_and_of_equal_ones_the_first(values: list[int], shares: list[float], thin: bool) -> None:
    c = connection(values)
    if thin:
        c = replace(c, weight=sparse.csr_array(np.asarray(c.weight)))
        values = [v for v in values if v]
    pruner = Pruner(c)
    for share in shares:
        drop = round(share * len(values))
        order = np.argsort(np.abs(values), kind="stable")[drop:] if values else np.array([], dtype=int)
        wanted = np.zeros(len(values))
        wanted[order] = np.sign(values)[order]
        found = pruner.to(share).weight
        got = found.ravel() if isinstance(found, np.ndarray) else found.data
        assert np.sign(got).tolist() == wanted.tolist()


@pytest.mark.parametrize("order", ["drawn", "sorted", "sample is off", "few values"])
def test_many_weights_are_pruned_as_sorting_does(order: str) -> None:
    """More weights than are looked at together; a sample that says nothing about the others is no harm."""
    values = np.random.default_rng(0).standard_normal(3 * BLOCK).astype(np.float32)
    if order == "sorted":
        values.sort()
    elif order == "sample is off":
        values[::EVERY] += 100
    elif order == "few values":
        values = np.rint(values)
    pruner = Pruner(connection(values.tolist()))
    for share in (0.999, 0.5, 0.75, 1e-5, 1.0):
        drop = round(share * values.size)
        wanted = np.zeros(values.size)
        stay = np.argsort(np.abs(values), kind="stable")[drop:]
        wanted[stay] = np.sign(values[stay])
        assert np.array_equal(np.asarray(pruner.to(share).weight).ravel(), wanted)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.lists(st.integers(-4, 4), min_size=6, max_size=6), min_size=1, max_size=5),
       fan_in=st.integers(1, 7), thin=st.booleans())
def test_the_largest_of_each_row_stay(rows: list[list[int]], fan_in: int, thin: bool) -> None:
    weight = np.array(rows, dtype=float)
    c = Connection("w", "a", "b", sparse.csr_array(weight) if thin else weight, None, None, (6,), (len(rows),))
    found = limited(c, fan_in)
    left = np.asarray(found.matrix().toarray())
    for before, after in zip(weight, left, strict=True):
        assert np.count_nonzero(after) == min(fan_in, np.count_nonzero(before))
        assert sorted(np.abs(after))[::-1][:fan_in] == sorted(np.abs(before))[::-1][:fan_in]
        assert set(np.flatnonzero(after)) <= set(np.flatnonzero(before))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_weights_of_pools_stay(share: float) -> None:
    pool = replace(connection([1, 2, 3]), trained=False)
    assert Pruner(pool).to(share) is pool
    assert limited(pool, 1) is pool
