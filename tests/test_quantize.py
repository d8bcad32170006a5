"""Rounding, GPTQ and descent against the dense formulas and exhaustive search, on every kind of grid."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layer_problems import loss, problem, tensors

from neurocompress.compression.maths.quantize import (
    BLOCK,
    best_scale,
    better_rows,
    descend,
    gptq,
    inverse_factor,
    layer_error,
    rtn,
)
from neurocompress.network.grid import Grid, Levels, Scale, Scheme

BITS, LEVELS, SCALES = range(2, 17), get_args(Levels), get_args(Scale)
schemes = st.builds(Scheme, st.sampled_from(BITS), st.sampled_from(LEVELS), st.sampled_from(SCALES), st.booleans())
seeds = st.integers(0, 99999)


def grid_of(scheme: Scheme, weight: np.ndarray, share: float = 1.0) -> Grid:
    """Steps that reach to a share of the largest weight of each row, or of all."""
    end = np.abs(weight).max(axis=1, keepdims=True) * share
    return scheme.grid(scheme.steps(end if scheme.scale == "per-channel" else np.full_like(end, end.max())))


def numbers(grid: Grid) -> list[int]:
    return list(range(int(np.min(grid.low)), int(np.max(grid.m_max)) + 1, int(np.max(grid.stride))))


def literal_gptq(weight: np.ndarray, hessian: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
    """One input after the other, those of small [H^-1]_jj first: the nearest of all grid numbers, and its error onto
    the inputs F that are left as -e [H^-1]_jF / [H^-1]_jj, with the inverse of their part of H computed anew."""
    left = list(np.argsort(np.diag(np.linalg.inv(hessian)), kind="stable"))
    w, m = weight.copy(), np.zeros(weight.shape, dtype=np.int64)
    step, every = np.broadcast_to(grid.step, weight.shape), np.array(numbers(grid))
    while left:
        j, inverse = left[0], np.linalg.inv(hessian[np.ix_(left, left)])
        for row in range(len(w)):
            if mask is None or mask[row, j]:
                m[row, j] = every[np.abs(w[row, j] - every * step[row, j]).argmin()]
        error = w[:, j] - m[:, j] * step[:, j]
        w[:, left] -= error[:, None] * inverse[0] / inverse[0, 0]
        left = left[1:]
    return m


@settings(deadline=None, max_examples=80)
@given(seeds, schemes, st.integers(1, 3), st.integers(1, 7), st.floats(0.3, 1.0), st.booleans(), st.booleans())
@example(2226, Scheme(4), 2, 1, 1.0, False, False)  # one input, which never spikes
@example(2226, Scheme(3, "even", "per-channel", True), 3, 1, 0.5, True, True)
def test_gptq_follows_the_dense_formula_on_every_kind_of_grid(seed, scheme, rows, d, share, pruned, mirrored):
    weight, hessian = problem(seed, rows, d)
    grid = grid_of(scheme, weight, share)
    if mirrored:
        grid = Grid(-grid.step, grid.m_max, grid.m_min, grid.stride)
    mask = np.random.default_rng(seed).random(weight.shape) < 0.6 if pruned else None
    m = gptq(weight, torch.from_numpy(hessian), grid, mask)
    assert m.dtype == np.int64
    assert np.isin(m, numbers(grid)).all()
    np.testing.assert_array_equal(m, literal_gptq(weight, hessian, grid, mask))


def test_gptq_of_more_columns_than_are_gathered_follows_the_dense_formula():
    weight, hessian = problem(2, 2, BLOCK + 30)
    grid = grid_of(Scheme(4), weight)
    expected = literal_gptq(weight, hessian, grid)
    np.testing.assert_array_equal(gptq(weight, torch.from_numpy(hessian), grid), expected)
    known = inverse_factor(torch.from_numpy(hessian))
    np.testing.assert_array_equal(gptq(weight, torch.from_numpy(hessian), grid, None, known), expected)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 12))
def test_the_factor_is_that_of_the_inverse_in_the_papers_order(seed, d):
    _, hessian = problem(seed, 1, d)
    upper, order = inverse_factor(torch.from_numpy(hessian))
    inverse = np.linalg.inv(hessian)
    assert (np.diff(np.diag(inverse)[order.numpy()]) >= -1e-12).all()
    np.testing.assert_allclose((upper.T @ upper).numpy(), inverse[np.ix_(order, order)], rtol=1e-6, atol=1e-9)
    assert torch.equal(upper, upper.triu())


def test_layers_of_different_grids_side_by_side_keep_to_their_own():
    """Three columns of 2 bits in two's complement, four even ones of 6 bits; the second row has steps of its own."""
    weight, hessian = problem(9, 2, 7)
    a, b = Scheme(2, "twos-complement"), Scheme(6, "even")
    step = np.concatenate([np.repeat(grid_of(scheme, part).step, part.shape[1], axis=1)
                           for scheme, part in ((a, weight[:, :3]), (b, weight[:, 3:]))], axis=1)
    sides = [np.array([x] * 3 + [y] * 4)[None] for x, y in ((a.m_max, b.m_max), (a.m_min, b.m_min), (1, 2))]
    grid = Grid(step, *sides)
    for m in (gptq(weight, torch.from_numpy(hessian), grid), rtn(weight, grid),
              descend(weight, rtn(weight, grid), torch.from_numpy(hessian), grid, sweeps=20)):
        assert np.isin(m[:, :3], range(-2, 2)).all()
        assert np.isin(m[:, 3:], range(-62, 63, 2)).all()


def test_gptq_of_one_column_and_of_independent_inputs_is_rounding():
    weight = np.random.default_rng(0).normal(size=(6, 9))
    grid = Grid(np.abs(weight).max() / 7, 7)
    np.testing.assert_array_equal(gptq(weight, torch.eye(9, dtype=torch.float64), grid), rtn(weight, grid))
    (one,) = tensors(np.array([[3.7]]))
    np.testing.assert_array_equal(gptq(weight[:, :1], one, grid), rtn(weight[:, :1], grid))


def test_gptq_beats_rounding_by_far_on_correlated_inputs():
    ratio = []
    for seed in range(20):
        weight, hessian = problem(seed, 8, 24)
        grid, (h,) = grid_of(Scheme(4), weight), tensors(hessian)
        found = layer_error(weight, grid.value(gptq(weight, h, grid)), h).sum()
        ratio.append(found / layer_error(weight, grid.value(rtn(weight, grid)), h).sum())
    assert np.median(ratio) < 0.8


def test_pruned_weights_stay_zero_and_their_value_moves_on():
    weight, hessian = problem(3, 6, 20)
    mask = np.abs(weight) >= np.median(np.abs(weight))
    grid, (h,) = grid_of(Scheme(4), weight), tensors(hessian)
    m = gptq(weight, h, grid, mask)
    assert not np.any(m[~mask])
    compensated = layer_error(weight, grid.value(m), h).sum()
    assert compensated < layer_error(weight, grid.value(rtn(weight, grid, mask)), h).sum()


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 5), st.integers(1, 9))
def test_the_layer_error_is_the_quadratic_form(seed, rows, d):
    weight, hessian = problem(seed, rows, d)
    other = np.random.default_rng(seed).normal(size=weight.shape)
    np.testing.assert_allclose(layer_error(weight, other, torch.from_numpy(hessian)), loss(weight, other, hessian),
                               rtol=1e-9)


@settings(deadline=None, max_examples=80)
@given(seeds, st.builds(Scheme, st.integers(2, 6), st.sampled_from(LEVELS), st.sampled_from(SCALES), st.booleans()),
       st.integers(1, 3), st.integers(1, 7), st.floats(0.3, 1.0), st.booleans(), st.integers(0, 1))
def test_descent_never_loses_and_ends_where_no_single_number_can_be_better(seed, scheme, rows, d, share, pruned, dead):
    weight, hessian = problem(seed, rows, d)
    hessian[:dead], hessian[:, :dead] = 0.0, 0.0
    grid, (h,) = grid_of(scheme, weight, share), tensors(hessian)
    mask = np.random.default_rng(seed).random(weight.shape) < 0.6 if pruned else None
    start = rtn(weight, grid, mask)
    errors = [layer_error(weight, grid.value(start), h)]
    for sweeps in (1, 2, 3, 100):
        m = descend(weight, start, h, grid, mask, sweeps=sweeps)
        errors.append(layer_error(weight, grid.value(m), h))
    assert all((after <= before + 1e-9).all() for before, after in itertools.pairwise(errors))
    assert np.isin(m, numbers(grid)).all()
    assert mask is None or not m[~mask].any()
    np.testing.assert_array_equal(m[:, :dead], start[:, :dead])
    for row, j in itertools.product(range(rows), range(d)):
        if mask is not None and not mask[row, j]:
            continue
        moved = np.repeat(m[row : row + 1], len(numbers(grid)), axis=0)
        moved[:, j] = numbers(grid)
        step = np.broadcast_to(grid.step, weight.shape)[row]
        best = loss(weight[row], moved * step, hessian).min()
        assert best >= errors[-1][row] - 1e-9 * (1 + errors[-1][row])


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_the_better_of_both_lies_between_the_best_grid_point_and_rounding(seed):
    """Exhaustive search over 7^4 integer rows. Greedy GPTQ alone may lose to rounding where the grid ends."""
    weight, hessian = problem(seed, 1, 4)
    grid, (h,) = Grid(np.abs(weight).max() / 3, 3), tensors(hessian)
    choices = np.array(list(itertools.product(range(-3, 4), repeat=4))) * grid.step
    best = loss(weight, choices, hessian).min()
    rounded = rtn(weight, grid)
    found = better_rows(weight, gptq(weight, h, grid), rounded, grid, h)
    error = layer_error(weight, grid.value(found), h)[0]
    assert best - 1e-12 <= error <= layer_error(weight, grid.value(rounded), h)[0] + 1e-12


def test_gptq_and_descent_mostly_find_the_best_of_all_rows():
    """3^5 rows of ternary weights, and 7^4 of 3 bits."""
    for bits, d in ((2, 5), (3, 4)):
        ratios = []
        for seed in range(60):
            weight, hessian = problem(seed, 1, d)
            grid, (h,) = grid_of(Scheme(bits), weight, 0.8), tensors(hessian)
            best = loss(weight, np.array(list(itertools.product(numbers(grid), repeat=d))) * grid.step, hessian).min()
            start = better_rows(weight, gptq(weight, h, grid), rtn(weight, grid), grid, h)
            found = descend(weight, start, h, grid, sweeps=50)
            ratios.append(layer_error(weight, grid.value(found), h)[0] / best)
        assert min(ratios) >= 1 - 1e-9
        assert np.mean(np.array(ratios) < 1 + 1e-9) >= 0.7, (bits, ratios)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 5), st.integers(1, 8), st.integers(2, 8))
def test_the_best_scale_is_least_squares(seed, rows, d, bits):
    weight, hessian = problem(seed, rows, d)
    grid = grid_of(Scheme(bits), weight, 0.7)
    q = grid.value(rtn(weight, grid))
    found = best_scale(weight, q, torch.from_numpy(hessian))
    root = np.linalg.cholesky(hessian).T
    for row in range(rows):
        a = root @ q[row]
        expected = np.linalg.lstsq(a[:, None], root @ weight[row], rcond=None)[0][0] if a.any() else 1.0
        assert found[row] == pytest.approx(expected if expected > 0 else 1.0, rel=1e-6)


@pytest.mark.parametrize("bits", [2, 5, 16])
def test_a_layer_without_any_input_spike_is_rounded_not_zeroed(bits):
    weight = np.random.default_rng(0).normal(size=(3, 4))
    grid = grid_of(Scheme(bits), weight)
    h = torch.eye(4, dtype=torch.float64)  # what damping makes of no spikes
    np.testing.assert_array_equal(gptq(weight, h, grid), rtn(weight, grid))
    np.testing.assert_array_equal(descend(weight, rtn(weight, grid), 0 * h, grid), rtn(weight, grid))


def test_the_same_call_twice_gives_the_same_integers():
    weight, hessian = problem(1, 40, 200)
    grid, (h,) = grid_of(Scheme(3), weight), tensors(hessian)
    for solve in (gptq, lambda w, h, g: descend(w, rtn(w, g), h, g)):
        np.testing.assert_array_equal(solve(weight, h, grid), solve(weight, h, grid))
