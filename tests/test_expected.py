"""What pruning is expected to leave, against plain sorting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from neurocompress.chip.expected import Pruner, limited
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
