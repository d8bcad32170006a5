"""Counters that build no matrix, against counters of the matrix."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from neurocompress.chip.profile.memory_formulas import FORMULAS
from neurocompress.fit.mapping.counts_of_matrix import ROWS, MatrixFan, per_column
from neurocompress.fit.mapping.counts_of_partial_sums import GatherFan, parts_of
from neurocompress.fit.mapping.counts_of_sparse_kernel import ThinFan, channel_parts
from neurocompress.fit.mapping.partition import even
from neurocompress.fit.mapping.synapse_counts import Cut, Fan, Format
from neurocompress.network.connections import Connection
from neurocompress.network.kernel import Kernel
from neurocompress.network.nodes import Shape

SEEDS = st.integers(0, 2**32 - 1)


def agree(found: Fan, grid: Shape, cut: Cut, form: Format) -> None:
    """Everything that is counted is what the matrix says."""
    c = found.connection
    wanted = MatrixFan(
        Connection(c.name, c.source, c.target, c.matrix(), None, None, c.source_shape, c.target_shape), grid)
    for every in (1, 3):
        got, sought = found.load(cut, form, every), wanted.load(cut, form, every)
        for name in (f.name for f in fields(got)):
            assert np.array_equal(getattr(got, name), getattr(sought, name)), name
        assert np.array_equal(found.heard(cut, every), sought.axons)
        assert np.array_equal(wanted.heard(cut, every), sought.axons)
    assert np.array_equal(found.reach(cut), wanted.reach(cut))
    assert np.array_equal(list(found.touched(cut)), list(wanted.touched(cut)))
    assert (found.axons(cut) <= wanted.heard(cut)).all()  # a bound
    assert np.array_equal(found.fan_in(), wanted.fan_in())
    assert np.array_equal(found.fan_out(), wanted.fan_out())
    assert found.sources() == wanted.sources()
    assert found.stored_weights() == wanted.stored_weights()


def drawn(rng: np.random.Generator, grid: Shape) -> tuple[Cut, Format]:
    cut = tuple(even(n, int(rng.integers(1, n + 1))) for n in grid)
    formula = FORMULAS[str(rng.choice(list(FORMULAS)))]
    return cut, Format(formula, int(rng.integers(1, 9)), int(rng.integers(0, 4)), neurons=int(rng.choice([1, 50])))


def thinned(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape) * (rng.random(shape) < rng.random()))


def convolution(rng: np.random.Generator) -> Connection:
    c_in, c_out, h, w, *kernel = (int(n) for n in rng.integers(1, 7, size=6))
    kernel = [min(k, n) for k, n in zip(kernel, (h, w), strict=True)]
    step = tuple(int(n) for n in rng.integers(1, 4, size=2))
    pad = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, size=(2, 2)))
    weight = thinned(rng, (c_out, c_in, *kernel))
    geometry = Kernel.of((c_in, h, w), weight.shape, step, pad, (1, 1), 1)
    return Connection("conv", "a", "b", weight, geometry, None, (c_in, h, w), geometry.output_shape)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_a_thin_convolution_is_its_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = convolution(rng)
    assert c.kernel is not None
    agree(ThinFan(c, c.kernel, channels=slice(None)), c.target_shape, *drawn(rng, c.target_shape))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, parts=st.integers(2, 8))
def test_parts_of_a_convolution_are_its_matrix(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    c = convolution(rng)
    found = channel_parts(c, parts, 1000)
    assert len(found) == parts
    assert np.array_equal(sum(f.connection.matrix().toarray() for f in found), c.matrix().toarray())
    for f in found:
        agree(f, c.target_shape, *drawn(rng, c.target_shape))
    most = max(f.sources() for f in found)
    assert most == 0 or channel_parts(c, parts, most - 1) == []


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, parts=st.integers(2, 8), image=st.booleans())
def test_parts_of_a_matrix_are_the_matrix(seed: int, parts: int, image: bool) -> None:
    rng = np.random.default_rng(seed)
    target, source = ((3, 2, 2), (4, 2, 3)) if image else ((int(rng.integers(1, 200)),), (int(rng.integers(1, 30)),))
    weight = thinned(rng, (int(np.prod(target)), int(np.prod(source))))
    c = Connection("fc", "a", "b", weight, None, None, source, target)
    limit = max(1, -(-int(np.count_nonzero(weight, axis=1).max()) // parts))
    found = parts_of(c, target, parts, limit)
    assert np.array_equal(sum(f.connection.matrix().toarray() for f in found), weight)
    for f in found:
        assert f.fan_in().max() <= limit
        agree(f, target, *drawn(rng, target))


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, grid=st.sampled_from([(7,), (3, 4, 2)]))
def test_what_gathers_is_its_matrix(seed: int, grid: Shape) -> None:
    n = int(np.prod(grid))
    c = Connection("fc", "a", "b", sparse.csr_array(sparse.eye_array(n)), None, None, grid, grid, trained=False)
    agree(GatherFan(c, grid), grid, *drawn(np.random.default_rng(seed), grid))


@pytest.mark.parametrize("rows", [1, ROWS, 5 * ROWS + 1, 300])
def test_synapses_of_columns(rows: int) -> None:
    weight = np.random.default_rng(0).integers(-1, 2, size=(rows, 9)).astype(np.int8)
    weight[:, 0] = 1  # more of them than a byte counts
    assert per_column(weight).tolist() == np.count_nonzero(weight, axis=0).tolist()
