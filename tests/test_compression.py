"""Solvers against dense float64 formulas and exhaustive search on small problems."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.compression.calibrate import calibrate
from neurocompress.compression.hessian import Hessian, filtered, patches
from neurocompress.compression.prune import magnitude
from neurocompress.compression.quantize import better_rows, gptq, layer_error, rtn
from neurocompress.compression.refine import Decay, Target, constraints, refine
from neurocompress.grid import Grid
from neurocompress.network.conventions import Conventions
from neurocompress.network.discrete import discretize
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate


def kernel_matrix(alpha: float | None, beta: float, steps: int) -> np.ndarray:
    """M of the paper as an explicit (steps, steps) matrix: the response of v to one unit of input."""
    response, v, current = [], 0.0, 0.0
    for t in range(steps):
        x = 1.0 if t == 0 else 0.0
        current = x if alpha is None else alpha * current + x
        v = beta * v + current
        response.append(v)
    return np.array([[response[t - s] if t >= s else 0.0 for s in range(steps)] for t in range(steps)])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.sampled_from([None, 3.0]), st.sampled_from([None, 2.0, 9.0]), st.integers(0, 999))
def test_the_running_filter_equals_the_explicit_matrix(steps, tau_syn, tau_mem, seed):
    if tau_mem is None:
        tau_syn = None
    one = np.ones(2)
    neuron = Neuron((2,), r=one, v_threshold=one, v_reset=0 * one,
                    tau_mem=None if tau_mem is None else tau_mem * one, v_leak=None if tau_mem is None else 0 * one,
                    tau_syn=None if tau_syn is None else tau_syn * one, w_in=None if tau_syn is None else one)
    step = discretize(neuron, Conventions(dt=1.0))
    x = np.random.default_rng(seed).random((steps, 3, 4))
    alpha = None if tau_syn is None else 1 - 1 / tau_syn
    m = kernel_matrix(alpha, 1.0 if tau_mem is None else 1 - 1 / tau_mem, steps)
    np.testing.assert_allclose(filtered(torch.from_numpy(x), step).numpy(), np.einsum("ts,sbd->tbd", m, x), atol=1e-9)


def test_the_hessian_is_that_of_the_membrane_potentials():
    """H = 2 E[(MX)^T MX] of every layer of a network, against explicit matrices; plain X without `membrane`."""
    rng = np.random.default_rng(0)
    one = np.ones(5)
    lif = Neuron((5,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=4 * one, v_leak=0 * one)
    nodes = {"input": Input((3,)), "fc": Linear(rng.normal(size=(5, 3))), "lif": lif,
             "rec": Linear(rng.normal(size=(5, 5))), "output": Output((5,))}
    edges = (("input", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output"))
    network = Network(nodes, edges, Conventions(dt=1.0))
    x = (rng.random((6, 30, 3)) < 0.4).astype(np.float32)
    spikes = simulate(network, x, dtype=torch.float64)["output"]
    late = np.concatenate([np.zeros_like(spikes[:, :1]), spikes[:, :-1]], axis=1)  # feedback is one step late
    inputs = np.concatenate([x, late], axis=2)
    for membrane, m in ((True, kernel_matrix(None, 0.75, 30)), (False, np.eye(30))):
        rows = np.einsum("ts,nsd->ntd", m, inputs).reshape(-1, 8)
        found = calibrate(network, x, membrane=membrane).hessians[("fc", "rec")][0]
        np.testing.assert_allclose(found.numpy(), 2 * rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)


def test_patches_times_weights_is_the_convolution():
    rng = np.random.default_rng(1)
    for shape, weight_shape, stride, padding, dilation in (
        ((4, 7, 9), (6, 4, 3, 2), (2, 1), ((1, 1), (0, 2)), (1, 2)), ((3, 10), (5, 3, 4), (2,), ((2, 1),), (2,))):
        x, weight = rng.normal(size=(2, *shape)), rng.normal(size=weight_shape)
        conv = Conv(weight, None, stride, padding, dilation)
        pads = [n for pair in reversed(padding) for n in pair]
        run = torch.nn.functional.conv1d if len(shape) == 2 else torch.nn.functional.conv2d
        expected = run(torch.nn.functional.pad(torch.from_numpy(x), pads), torch.from_numpy(weight), None, stride, 0,
                       dilation)
        rows = patches(torch.from_numpy(x), conv) @ torch.from_numpy(weight).reshape(weight_shape[0], -1).T
        np.testing.assert_allclose(rows.numpy(), expected.flatten(2).transpose(1, 2).reshape(-1, weight_shape[0]))


def problem(seed: int, rows: int, d: int):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, d)) @ rng.normal(size=(d, d))  # correlated inputs
    hessian = Hessian(d)
    hessian.add(torch.from_numpy(x))
    weight = rng.normal(size=(rows, d))
    return weight, hessian.mean()[0], Grid(np.abs(weight).max() / 3, 3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 9999))
def test_the_better_of_both_lies_between_the_best_grid_point_and_rounding(seed):
    """Exhaustive search over 7^4 integer rows. Greedy GPTQ alone may lose to rounding where the grid ends."""
    weight, hessian, grid = problem(seed, 1, 4)
    choices = np.array(list(itertools.product(range(-3, 4), repeat=4))) * grid.step
    best = min(layer_error(np.repeat(weight, len(choices), 0), choices, hessian))
    rounded = rtn(weight, grid)
    found = better_rows(weight, gptq(weight, hessian, grid), rounded, grid, hessian)
    error = layer_error(weight, found * grid.step, hessian)[0]
    assert best - 1e-12 <= error <= layer_error(weight, rounded * grid.step, hessian)[0] + 1e-12


def test_gptq_beats_rounding_by_far_on_correlated_inputs():
    ratio = []
    for seed in range(20):
        weight, hessian, grid = problem(seed, 8, 24)
        found = layer_error(weight, gptq(weight, hessian, grid) * grid.step, hessian).sum()
        ratio.append(found / layer_error(weight, rtn(weight, grid) * grid.step, hessian).sum())
    assert np.median(ratio) < 0.4


def test_gptq_of_one_column_and_of_independent_inputs_is_rounding():
    weight = np.random.default_rng(0).normal(size=(6, 9))
    grid = Grid(np.abs(weight).max() / 7, 7)
    np.testing.assert_array_equal(gptq(weight, torch.eye(9, dtype=torch.float64), grid), rtn(weight, grid))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 9999))
def test_gptq_columns_follow_the_dense_formula(seed):
    """Each column's error moves onto the later ones as -e [H^-1]_{j,F} / [H^-1]_jj of the remaining inputs F."""
    weight, hessian, grid = problem(seed, 2, 5)
    h = hessian.numpy() + 0.01 * np.mean(np.diag(hessian.numpy())) * np.eye(5)
    order = np.argsort(np.diag(np.linalg.inv(h)), kind="stable")
    w, m, left = weight.copy(), np.zeros(weight.shape, dtype=np.int64), list(order)
    while left:
        inverse = np.linalg.inv(h[np.ix_(left, left)])
        j = left[0]
        m[:, j] = grid.nearest(w[:, j])
        error = w[:, j] - m[:, j] * grid.step
        w[:, left] -= error[:, None] * inverse[0] / inverse[0, 0]
        left = left[1:]
    np.testing.assert_array_equal(gptq(weight, hessian, grid), m)


def test_pruned_weights_stay_zero_and_their_value_moves_on():
    weight, hessian, grid = problem(3, 6, 20)
    mask = magnitude(weight, 0.5)
    m = gptq(weight, hessian, grid, mask)
    assert not np.any(m[~mask])
    compensated = layer_error(weight, m * grid.step, hessian).sum()
    assert compensated < layer_error(weight, rtn(weight, grid, mask) * grid.step, hessian).sum()


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_magnitude_keeps_exactly_the_largest(size, sparsity, seed):
    weight = np.random.default_rng(seed).normal(size=size)
    mask = magnitude(weight, sparsity)
    assert mask.sum() == round(size * (1 - sparsity))
    if 0 < mask.sum() < size:
        assert np.abs(weight[mask]).min() >= np.abs(weight[~mask]).max()


def test_a_layer_without_any_input_spike_is_rounded_not_zeroed():
    weight = np.random.default_rng(0).normal(size=(3, 4))
    grid = Grid(np.abs(weight).max() / 127, 127)
    m = gptq(weight, torch.zeros((4, 4), dtype=torch.float64), grid)
    np.testing.assert_array_equal(m, rtn(weight, grid))


@pytest.mark.parametrize("reset", ["zero", "subtract", "two-phase"])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_refined_neurons_repeat_their_spikes(reset, tau_syn):
    """Constraints hold for the float weights; integers that satisfy them give the same spike train in simulation."""
    rng = np.random.default_rng(5)
    n, d, steps = 6, 10, 60
    weight, bias = rng.normal(0.1, 0.5, size=(n, d)), rng.normal(0, 0.05, size=n)
    one = np.ones(n)
    neuron = Neuron((n,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=5 * one, v_leak=0 * one,
                    tau_syn=None if tau_syn is None else tau_syn * one, w_in=None if tau_syn is None else one)
    rule = Conventions(dt=1.0, reset="zero" if reset == "zero" else "subtract", two_phase_reset=reset == "two-phase")
    # gains of 1: the layer's numbers are in threshold units
    step = discretize(neuron, rule)
    gain = float(np.mean(step.input_gain))
    x = (rng.random((2, steps, d)) < 0.4).astype(np.float64)

    def network(w, b):
        nodes = {"input": Input((d,)), "fc": Linear(w / gain, b / gain), "n": neuron, "output": Output((n,))}
        return Network(nodes, (("input", "fc"), ("fc", "n"), ("n", "output")), rule)

    spikes = simulate(network(weight, bias), x, dtype=torch.float64)["output"]
    assert 0.05 < spikes.mean() < 0.9
    decay = Decay(None if tau_syn is None else 1 - 1 / tau_syn, 0.8)
    target = Target(x, spikes, bias, np.zeros(n), decay, rule.reset, rule.two_phase_reset)
    for j in range(n):
        a, b = constraints(target, j, weight[j])
        assert np.min(a[:, :d] @ weight[j] + b) >= -1e-9
    grid = Grid(np.abs(weight).max() / 31, 31)
    m, shift, left = refine(target, weight, grid.nearest(weight), np.broadcast_to(grid.step, (n, d)), 31, None, True)
    assert left == 0.0
    again = simulate(network(m * grid.step, bias + shift), x, dtype=torch.float64)["output"]
    np.testing.assert_array_equal(again, spikes)
