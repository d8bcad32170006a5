"""The OBS ordering against brute force: inverses computed anew for every removal, and algorithm 1 to the letter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_problems import brute_force_obs, loss, on_support, problem, tensors

from neurocompress.compression.maths.ordering import LAZY, removal_losses
from neurocompress.compression.maths.support import largest


def inverse_of(hessian: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(hessian))


def algorithm_1(weight: np.ndarray, inverse: np.ndarray, block: int) -> np.ndarray:
    """Losses (d,) of one row as the paper writes it (Spiking Brain Compression, algorithm 1)."""
    w, inv, left = weight.copy(), inverse.copy(), np.arange(len(weight))
    losses = np.zeros(len(weight))
    while len(left):
        s = w[left] ** 2 / np.diag(inv)[left]
        p = left[np.argsort(s)[:block]]
        losses[p] = np.sort(s)[:block]
        solved = inv[:, p] @ np.linalg.inv(inv[np.ix_(p, p)])
        w = w - solved @ w[p]
        inv = inv - solved @ inv[p]
        left = np.setdiff1d(left, p)
    return losses


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.integers(1, 4), st.integers(1, 20))
def test_one_at_a_time_is_brute_force_obs(seed, rows, d):
    weight, hessian = problem(seed, rows, d)
    found = removal_losses(torch.from_numpy(weight), inverse_of(hessian)).numpy()
    expected = np.array([brute_force_obs(w, hessian, d)[0] for w in weight])
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.integers(1, 4), st.integers(1, 20), st.integers(2, 7))
def test_several_at_a_time_is_algorithm_1(seed, rows, d, block):
    weight, hessian = problem(seed, rows, d)
    inverse = inverse_of(hessian)
    found = removal_losses(torch.from_numpy(weight), inverse, block_in=block).numpy()
    expected = np.array([algorithm_1(w, inverse.numpy(), block) for w in weight])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("block", [1, 3, 50, LAZY + 9])
def test_beyond_the_removals_that_are_gathered_nothing_changes(block):
    """d over twice LAZY: the inverse is updated and cut down between removals."""
    d = 2 * LAZY + 21
    weight, hessian = problem(5, 3, d)
    inverse = inverse_of(hessian)
    found = removal_losses(torch.from_numpy(weight), inverse, block_in=block).numpy()
    expected = np.array([algorithm_1(w, inverse.numpy(), block) for w in weight])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-10)


def test_the_losses_add_up_to_the_loss_of_what_is_left():
    """Each loss is w_p^2 / [H^-1]_pp; halves of it are what a removal costs, so that the first n of them sum up to the
    loss of the row on the support that they leave."""
    d = LAZY + 30
    weight, hessian = problem(11, 2, d)
    for removals in (1, LAZY, d - 3):
        losses = removal_losses(torch.from_numpy(weight), inverse_of(hessian), removals=removals).numpy()
        kept = np.isinf(losses)
        assert (kept.sum(1) == d - removals).all()
        left = loss(weight, on_support(weight, hessian, kept), hessian)
        np.testing.assert_allclose(np.where(kept, 0.0, losses).sum(1) / 2, left, rtol=1e-7)


@pytest.mark.parametrize("block", [1, 4])
def test_rows_in_flight_do_not_change_the_losses(block):
    d = LAZY + 40
    weight, hessian = problem(7, 5, d)
    w, inverse = torch.from_numpy(weight), inverse_of(hessian)
    whole = removal_losses(w, inverse, block_in=block)
    done: list[int] = []
    two_rows = 2 * (2 * d * d * inverse.element_size())
    parts = removal_losses(w, inverse, block_in=block, memory=two_rows, progress=done.append)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=0.0)
    assert done == [2, 4, 5]
    before = inverse.clone()
    torch.testing.assert_close(removal_losses(w, inverse, block_in=block, memory=0), whole, rtol=1e-9, atol=0.0)
    assert torch.equal(inverse, before)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99999), st.integers(2, 90), st.data(), st.sampled_from([1, 2, 5]))
def test_fewer_removals_are_the_first_of_all(seed, d, data, block):
    removals = data.draw(st.integers(0, d))
    weight, hessian = problem(seed, 2, d)
    w, inverse = torch.from_numpy(weight), inverse_of(hessian)
    every = removal_losses(w, inverse, block_in=block)
    found = removal_losses(w, inverse, block_in=block, removals=removals)
    gone = torch.isfinite(found)
    assert (gone.sum(1) == removals).all()
    if removals % block == 0 or block == 1:
        torch.testing.assert_close(found[gone], every[gone], rtol=1e-8, atol=0.0)


def test_zeros_go_first_and_cost_nothing():
    weight, hessian = problem(3, 4, 30)
    weight[:, ::3] = 0.0
    losses = removal_losses(torch.from_numpy(weight), inverse_of(hessian)).numpy()
    assert (losses[:, ::3] == 0.0).all()
    rest = np.setdiff1d(np.arange(30), np.arange(0, 30, 3))
    small = np.linalg.inv(hessian)[np.ix_(rest, rest)]
    assert losses[:, rest].min() > 0.0
    expected = np.array([brute_force_obs(w, np.linalg.inv(small), len(rest))[0] for w in weight[:, rest]])
    kept_all = np.array([brute_force_obs(w[rest], hessian[np.ix_(rest, rest)], len(rest))[0] for w in weight])
    np.testing.assert_allclose(losses[:, rest], kept_all, rtol=1e-7)
    assert not np.allclose(expected, kept_all)  # removing an input is not cutting the inverse


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_single_precision_loses_at_most_one_percent(sparsity):
    """The error after the refit on 200 inputs, relative to exact OBS in float64."""
    weight, hessian = problem(1, 24, 200)
    w, inverse = torch.from_numpy(weight), inverse_of(hessian)
    keep = round((1 - sparsity) * weight.size)

    def error(losses: torch.Tensor) -> float:
        mask = largest(losses, keep).numpy()
        return float(loss(weight, on_support(weight, hessian, mask), hessian).sum())

    exact = error(removal_losses(w, inverse))
    assert error(removal_losses(w, inverse.to(torch.float32))) <= 1.01 * exact


def test_single_precision_stays_finite_where_the_hessian_is_nearly_singular():
    """Inputs that are copies of each other: only the damping tells them apart."""
    rng = np.random.default_rng(0)
    x = np.repeat((rng.random((300, 12)) < 0.3).astype(float), 12, axis=1)
    hessian = 2 * x.T @ x / len(x)
    hessian += 1e-3 * np.diag(hessian).mean() * np.eye(144)
    weight = rng.normal(size=(6, 144))
    (w, h) = tensors(weight, hessian)
    losses = removal_losses(w, torch.linalg.inv(h).to(torch.float32))
    assert torch.isfinite(losses).all()
    assert (losses >= 0).all()
    keep = weight.size // 10
    exact = removal_losses(w, torch.linalg.inv(h))
    single, double = (
        loss(weight, on_support(weight, hessian, largest(one, keep).numpy()), hessian).sum() for one in (losses, exact))
    assert single <= 1.02 * double


def test_a_block_far_larger_than_a_row_takes_no_more_room_than_the_row():
    weight, hessian = problem(7, 3, 9)
    whole, far = (removal_losses(torch.from_numpy(weight), inverse_of(hessian), block_in=b) for b in (9, 10**13))
    assert torch.equal(whole, far)
