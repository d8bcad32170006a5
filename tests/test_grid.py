"""Grids against lists of all the numbers that they hold."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.network.grid import Grid, Levels, Scale, Scheme

BITS, LEVELS, SCALES = range(2, 17), get_args(Levels), get_args(Scale)
schemes = st.builds(Scheme, st.sampled_from(BITS), st.sampled_from(LEVELS), st.sampled_from(SCALES), st.booleans())
ends = st.floats(1e-6, 1e6)


def every_level(bits: int, levels: str) -> set[int]:
    """The integers that the bits of one weight can say."""
    if levels == "pairs":  # an excitatory and an inhibitory unsigned number, one of them 0
        unsigned = range(2**bits)
        return {e - i for e in unsigned for i in (unsigned if e == 0 else (0,))}
    stored = range(-(2 ** (bits - 1)), 2 ** (bits - 1))  # two's complement
    if levels == "twos-complement":
        return set(stored)
    symmetric = {m for m in stored if -m in stored}
    return symmetric if levels == "symmetric" else {2 * m for m in symmetric}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("levels", LEVELS)
def test_a_scheme_holds_the_numbers_that_its_bits_can_say(bits, levels):
    scheme = Scheme(bits, levels)
    assert set(range(scheme.m_min, scheme.m_max + 1, scheme.stride)) == every_level(bits, levels)
    if levels == "symmetric":
        assert Grid.levels(bits) == scheme.m_max


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 8), st.sampled_from(LEVELS), st.floats(1e-3, 1e3), st.booleans(), st.integers(0, 9999))
def test_the_nearest_is_the_nearest_of_all_numbers(bits, levels, step, mirrored, seed):
    grid = Scheme(bits, levels).grid(np.array(-step if mirrored else step))
    weight = np.random.default_rng(seed).normal(scale=step * 2 ** (bits - 1), size=(3, 5))
    m = grid.nearest(weight)
    every = np.array(sorted(every_level(bits, levels)))
    assert m.dtype == np.int64
    assert np.isin(m, every).all()
    best = np.abs(weight[..., None] - every * grid.step).min(axis=-1)
    np.testing.assert_allclose(np.abs(weight - grid.value(m)), best, rtol=1e-9, atol=1e-9 * step)


@settings(deadline=None, max_examples=100)
@given(schemes, ends)
def test_a_grid_that_reaches_to_an_end_rounds_all_up_to_it_by_half_a_step(scheme, end):
    grid = scheme.grid(scheme.steps(np.array(end)))
    weight = np.linspace(-end, end, 1001)
    worst = np.abs(weight - grid.value(grid.nearest(weight))).max()
    assert worst <= 0.5 * float(grid.step) * scheme.stride * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(schemes, ends)
def test_a_step_is_no_larger_than_it_must_be(scheme, end):
    """The outermost number lies at `end`, or where steps are powers of two less than twice as far."""
    step = float(scheme.steps(np.array(end)))
    intervals = len(range(scheme.m_min, scheme.m_max + 1, scheme.stride)) - 1
    spread = step * scheme.stride * intervals
    assert spread >= 2 * end * (1 - 1e-9)
    if scheme.power_of_two:
        assert np.frexp(step)[0] == 0.5
        assert spread < 4 * end * (1 + 1e-9)
    else:
        assert spread <= 2 * end * (1 + 1e-9)


def test_an_end_that_is_a_power_of_two_away_keeps_its_power():
    scheme = Scheme(8, power_of_two=True)
    for exponent in range(-20, 20):
        assert scheme.steps(np.array(127 * 2.0**exponent)) == 2.0**exponent


def test_rows_of_a_grid_take_their_own_numbers_along():
    step = np.array([[1.0], [2.0], [4.0]])
    grid = Grid(step, 7)
    rows = grid.of_rows(slice(1, 3))
    weight = np.random.default_rng(0).normal(scale=8.0, size=(3, 6))
    np.testing.assert_array_equal(rows.nearest(weight[1:]), grid.nearest(weight)[1:])
    wide = Grid(np.repeat(step, 6, 1), np.array([[1] * 3 + [7] * 3] * 3), np.array([[-2] * 3 + [-7] * 3] * 3),
                np.array([[1] * 3 + [2] * 3] * 3))
    np.testing.assert_array_equal(wide.of_rows(slice(0, 2)).nearest(weight[:2]), wide.nearest(weight)[:2])
    one = Grid(np.array([[0.5]]), 3)
    np.testing.assert_array_equal(one.of_rows(slice(2, 3)).nearest(weight[2:]), one.nearest(weight)[2:])
