"""Supports and the values on them against numpy's least squares, the group OBS formula and all supports there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_problems import least_of_all_supports, loss, on_support, problem, tensors

from neurocompress.compression.maths.support import admm, largest, refit, spectrum


def drawn_mask(seed: int, shape: tuple[int, int], share: float) -> np.ndarray:
    """Rows of different counts, among them a full and an empty one where there is room."""
    mask = np.random.default_rng(seed).random(shape) < share
    if shape[0] > 2:
        mask[0], mask[1] = True, False
    return mask


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.integers(1, 7), st.integers(1, 24), st.floats(0.0, 1.0))
def test_the_refit_is_least_squares_on_the_support(seed, rows, d, share):
    weight, hessian = problem(seed, rows, d)
    mask = drawn_mask(seed, weight.shape, share)
    found = refit(*tensors(weight, hessian, mask)).numpy()
    assert not found[~mask].any()
    np.testing.assert_allclose(found, on_support(weight, hessian, mask), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99999), st.integers(1, 6), st.integers(2, 20), st.floats(0.1, 0.9))
def test_the_refit_is_group_obs(seed, rows, d, share):
    """delta = -H^-1[:, P] (H^-1[P, P])^-1 w_P (Spiking Brain Compression, algorithm 2)."""
    weight, hessian = problem(seed, rows, d)
    mask = drawn_mask(seed, weight.shape, share)
    inverse, expected = np.linalg.inv(hessian), weight.copy()
    for row, kept in enumerate(mask):
        p = np.flatnonzero(~kept)
        if len(p):
            expected[row] -= inverse[:, p] @ np.linalg.solve(inverse[np.ix_(p, p)], weight[row, p])
    found = refit(*tensors(weight, hessian, mask)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_a_full_support_keeps_the_weights_and_an_empty_one_none():
    weight, hessian = tensors(*problem(0, 3, 8))
    every = torch.ones_like(weight, dtype=torch.bool)
    torch.testing.assert_close(refit(weight, hessian, every), weight, rtol=1e-9, atol=1e-12)
    assert not refit(weight, hessian, ~every).any()


def test_little_memory_refits_row_by_row_with_the_same_result():
    weight, hessian = problem(4, 9, 30)
    given_ = tensors(weight, hessian, drawn_mask(4, weight.shape, 0.4))
    torch.testing.assert_close(refit(*given_, memory=0), refit(*given_), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(refit(*given_, memory=20_000), refit(*given_), rtol=1e-10, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=6), st.data())
def test_the_largest_with_ties_by_position(rows, data):
    score = np.array(rows, dtype=np.float64)
    keep = data.draw(st.integers(0, score.size))
    by_size = sorted(range(score.size), key=lambda i: (-abs(score.flat[i]), i))
    expected = np.zeros(score.size, dtype=bool)
    expected[by_size[:keep]] = True
    np.testing.assert_array_equal(largest(torch.from_numpy(score), keep).numpy(), expected.reshape(score.shape))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99999), st.integers(1, 6), st.integers(1, 12), st.integers(0, 12), st.data())
def test_admm_keeps_exactly_what_was_asked_of_each_block(seed, rows, first, second, data):
    weight, hessian = tensors(*problem(seed, rows, first + second))
    keep = [data.draw(st.integers(0, rows * w)) for w in (first, second)]
    mask = admm(weight, spectrum(hessian), (first, second), keep)
    assert [int(part.sum()) for part in mask.split([first, second], dim=1)] == keep


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
def test_admm_supports_beat_those_of_the_largest_weights(sparsity):
    """Ratio of errors after the refit, over drawn layers: the median and the worst."""
    ratios = []
    for seed in range(15):
        weight, hessian = problem(seed, 12, 40)
        keep = round((1 - sparsity) * weight.size)
        w, h = tensors(weight, hessian)
        by_admm, by_size = (
            loss(weight, refit(w, h, mask).numpy(), hessian).sum()
            for mask in (admm(w, spectrum(h), (40,), (keep,)), largest(w, keep)))
        ratios.append(by_admm / by_size)
    assert np.median(ratios) < 0.9
    assert max(ratios) <= 1.0


def test_admm_often_finds_the_best_of_all_supports():
    """924 supports of six among twelve weights."""
    ratios = []
    for seed in range(20):
        weight, hessian = problem(seed, 2, 6)
        w, h = tensors(weight, hessian)
        mask = admm(w, spectrum(h), (6,), (6,))
        ratios.append(loss(weight, refit(w, h, mask).numpy(), hessian).sum()
                      / least_of_all_supports(weight, hessian, 6))
    assert min(ratios) >= 1 - 1e-6
    assert np.mean(np.array(ratios) < 1 + 1e-6) >= 0.5
    assert max(ratios) < 3.0


def test_admm_with_independent_inputs_comes_close_to_the_largest():
    """With a diagonal H the best support is known: the largest w^2 H_ii."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weight, diagonal = rng.normal(size=(5, 16)), rng.uniform(0.1, 4.0, 16)
        square, keep = weight**2 * diagonal, int(rng.integers(5, 60))
        w, h = tensors(weight, np.diag(diagonal))
        mask = admm(w, spectrum(h), (16,), (keep,)).numpy()
        ratios.append(square[~mask].sum() / np.sort(square, axis=None)[: square.size - keep].sum())
    assert min(ratios) >= 1 - 1e-9
    assert np.median(ratios) <= 1.01
    assert max(ratios) <= 1.1


@pytest.mark.parametrize("rounds", [1, 2, 4, 9])
def test_admm_takes_the_steps_that_its_docstring_writes_out(rounds):
    """In float64 and with an inverse instead of the eigendecomposition."""
    for seed in range(10):
        weight, hessian = problem(seed, 6, 20)
        scale = np.sqrt(np.diag(hessian))
        w, h = weight * scale, hessian / np.outer(scale, scale)

        def kept(a):
            out, best = np.zeros_like(a), np.argsort(-np.abs(a), axis=None)[:40]
            out.flat[best] = a.flat[best]
            return out

        d, dual, rho = kept(w), np.zeros_like(w), 0.1
        before = d != 0
        for turn in range(1, rounds + 1):
            a = (w @ h - dual + rho * d) @ np.linalg.inv(h + rho * np.eye(20))
            d = kept(a + dual / rho)
            dual = dual + rho * (a - d)
            if turn % 3 == 0:
                share = ((d != 0) != before).sum() / 40
                if not share:
                    break
                rho *= 1.3 if share >= 0.1 else 1.2 if share >= 0.005 else 1.1
                before = d != 0
        found = admm(torch.from_numpy(weight), spectrum(torch.from_numpy(hessian)), (20,), (40,), rounds)
        np.testing.assert_array_equal(found.numpy(), d != 0)
