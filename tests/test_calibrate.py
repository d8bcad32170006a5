"""Hessians of every layer against explicit filter matrices and unfolded inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_statistics import crossed, statistics

from neurocompress.compression.maths.hessian import filtered, patches
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


def lif(shape: tuple[int, ...], tau_mem: float | None = 4.0, tau_syn: float | None = None) -> Neuron:
    """LIF, IF without tau_mem, CubaLIF with tau_syn."""
    one = np.ones(shape)
    return Neuron(
        shape, r=one, v_threshold=one, v_reset=0 * one, tau_mem=None if tau_mem is None else tau_mem * one,
        v_leak=None if tau_mem is None else 0 * one, tau_syn=None if tau_syn is None else tau_syn * one,
        w_in=None if tau_syn is None else one)


def conv(rng: np.random.Generator, out: int, channels: int, kernel: int, groups: int = 1) -> Conv:
    """A convolution that keeps height and width."""
    pad = kernel // 2
    weight = rng.normal(0.3, 0.6, size=(out, channels // groups, kernel, kernel))
    return Conv(weight, None, (1, 1), ((pad, pad), (pad, pad)), (1, 1), groups)


def windows(x: np.ndarray, kernel: int) -> np.ndarray:
    """Inputs of every window of a padded convolution, pixel by pixel: (c, h, w) -> (h w, c kernel kernel)."""
    c, h, w = x.shape
    padded = np.zeros((c, h + kernel - 1, w + kernel - 1))
    pad = kernel // 2
    padded[:, pad : pad + h, pad : pad + w] = x
    return np.array([padded[:, i : i + kernel, j : j + kernel].ravel() for i in range(h) for j in range(w)])


def hessian_of(m: np.ndarray, inputs: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """2 E[(MX)^T MX'] of inputs (samples, steps, ..., d), M along the steps."""
    mx, mo = (np.einsum("ts,ns...d->nt...d", m, x).reshape(-1, x.shape[-1])
              for x in (inputs, inputs if other is None else other))
    return 2 * mx.T @ mo / len(mx)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.sampled_from([None, 3.0]), st.sampled_from([None, 2.0, 9.0]),
       st.sampled_from(["euler", "exponential"]), st.integers(0, 999))
def test_the_running_filter_equals_the_explicit_matrix(steps, tau_syn, tau_mem, decay, seed):
    """LIF, IF and CubaLIF; one step (T = 1) is the identity."""
    if tau_mem is None:
        tau_syn = None

    def factor(tau: float | None) -> float:
        return 1.0 if tau is None else 1 - 1 / tau if decay == "euler" else np.exp(-1 / tau)

    step = discretize(lif((2,), tau_mem, tau_syn), Conventions(dt=1.0, decay=decay))
    x = np.random.default_rng(seed).random((steps, 3, 4))
    m = kernel_matrix(None if tau_syn is None else factor(tau_syn), factor(tau_mem), steps)
    found = filtered(torch.from_numpy(x), step).numpy()
    np.testing.assert_allclose(found, np.einsum("ts,sbd->tbd", m, x), atol=1e-9)
    if steps == 1:
        np.testing.assert_array_equal(found, x)
    if tau_mem is None:
        np.testing.assert_allclose(found, x.cumsum(axis=0), atol=1e-9)


def recurrent(rng: np.random.Generator) -> Network:
    nodes = {"input": Input((3,)), "fc": Linear(rng.normal(size=(5, 3))), "lif": lif((5,)),
             "rec": Linear(rng.normal(size=(5, 5))), "output": Output((5,))}
    edges = (("input", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output"))
    return Network(nodes, edges, Conventions(dt=1.0))


def feedback(network: Network, x: np.ndarray) -> np.ndarray:
    """Inputs of both layers of `recurrent`: the feedback is one step late."""
    spikes = simulate(network, x, dtype=torch.float64)["output"]
    return np.concatenate([x, np.concatenate([np.zeros_like(spikes[:, :1]), spikes[:, :-1]], axis=1)], axis=2)


@pytest.mark.parametrize("membrane", [True, False])
def test_feed_forward_and_recurrent_inputs_share_one_hessian(membrane):
    """H = 2 E[(MX)^T MX] against explicit matrices; plain X without `membrane`."""
    rng = np.random.default_rng(0)
    network = recurrent(rng)
    x = (rng.random((6, 30, 3)) < 0.4).astype(np.float32)
    m = kernel_matrix(None, 0.75, 30) if membrane else np.eye(30)
    found = statistics(network, x, membrane).hessians[("fc", "rec")][0]
    np.testing.assert_allclose(found.numpy(), hessian_of(m, feedback(network, x)), rtol=1e-4, atol=1e-5)


def test_the_energies_are_mean_squared_norms_at_each_step():
    rng = np.random.default_rng(3)
    network = recurrent(rng)
    x = (rng.random((5, 12, 3)) < 0.4).astype(np.float32)
    inputs = feedback(network, x)
    mx = np.einsum("ts,nsd->ntd", kernel_matrix(None, 0.75, 12), inputs)
    expected = [np.square(signal).sum(axis=2).mean(axis=0) for signal in (mx, inputs)]
    np.testing.assert_allclose(statistics(network, x).energies[("fc", "rec")], expected, rtol=1e-5, atol=1e-6)


def test_spikes_of_every_neuron_are_counted(monkeypatch):
    from neurocompress.simulation import float as simulator

    rng = np.random.default_rng(4)
    network = recurrent(rng)
    x = (rng.random((7, 12, 3)) < 0.4).astype(np.float32)
    (population,) = network.populations
    expected = simulate(network, x, (population,))[population].sum(axis=(0, 1))
    assert expected.any()
    monkeypatch.setattr(simulator, "BLOCK_BYTES", 2 * 5 * 12 * 4)  # two samples
    np.testing.assert_array_equal(statistics(network, x).counts[population], expected)


def test_the_cross_term_is_that_of_both_networks_inputs():
    """2 E[(MX)^T MX'] with X of the reference and X' of the network, whose own H is 2 E[(MX')^T MX']."""
    rng = np.random.default_rng(1)
    before = recurrent(rng)
    weights = {n: replace(before.nodes[n], weight=np.round(before.nodes[n].weight)) for n in ("fc", "rec")}
    after = before.with_nodes(weights)
    x = (rng.random((6, 20, 3)) < 0.4).astype(np.float32)
    m, old, new = kernel_matrix(None, 0.75, 20), feedback(before, x), feedback(after, x)
    assert not np.array_equal(old, new)
    both, own = crossed(before, after, x)
    np.testing.assert_allclose(both[("fc", "rec")][0].numpy(), hessian_of(m, old, new), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own[("fc", "rec")][0].numpy(), hessian_of(m, new), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tau_syn", [None, 2.0])
def test_two_convolutions_into_one_population_share_one_hessian(tau_syn):
    """A 3x3 and a 1x1 kernel side by side (the paper's appendix B), from windows taken pixel by pixel."""
    rng = np.random.default_rng(2)
    nodes = {"input": Input((2, 4, 5)), "a": conv(rng, 3, 2, 3), "first": lif((3, 4, 5)), "b": conv(rng, 4, 3, 3),
             "c": conv(rng, 4, 2, 1), "second": lif((4, 4, 5), 3.0, tau_syn), "output": Output((4, 4, 5))}
    edges = (("input", "a"), ("a", "first"), ("first", "b"), ("b", "second"), ("input", "c"), ("c", "second"),
             ("second", "output"))
    network = Network(nodes, edges, Conventions(dt=1.0))
    x = (rng.random((3, 8, 2, 4, 5)) < 0.4).astype(np.float32)
    first = simulate(network, x, dtype=torch.float64, record=("first",))["first"]
    assert 0.02 < first.mean() < 0.95
    (group,) = (g for g in statistics(network, x).hessians if "b" in g)
    parts = {"b": [[windows(s, 3) for s in sample] for sample in first],
             "c": [[windows(s, 1) for s in sample] for sample in x]}
    inputs = np.concatenate([np.array(parts[name]) for name in group], axis=-1)
    m = kernel_matrix(None if tau_syn is None else 0.5, 1 - 1 / 3.0, 8)
    found = statistics(network, x).hessians[group][0].numpy()
    np.testing.assert_allclose(found, hessian_of(m, inputs), rtol=1e-4, atol=1e-5)


def test_each_group_of_a_convolution_has_a_hessian_of_its_own():
    rng = np.random.default_rng(4)
    nodes = {"input": Input((4, 3, 3)), "conv": conv(rng, 6, 4, 3, groups=2), "lif": lif((6, 3, 3)),
             "output": Output((6, 3, 3))}
    network = Network(nodes, (("input", "conv"), ("conv", "lif"), ("lif", "output")), Conventions(dt=1.0))
    x = (rng.random((3, 7, 4, 3, 3)) < 0.4).astype(np.float32)
    found = statistics(network, x).hessians[("conv",)].numpy()
    m = kernel_matrix(None, 0.75, 7)
    for g in range(2):
        inputs = np.array([[windows(s[2 * g : 2 * g + 2], 3) for s in sample] for sample in x])
        np.testing.assert_allclose(found[g], hessian_of(m, inputs), rtol=1e-4, atol=1e-5)


def test_patches_times_weights_is_the_convolution():
    rng = np.random.default_rng(1)
    for shape, weight_shape, stride, padding, dilation in (
        ((4, 7, 9), (6, 4, 3, 2), (2, 1), ((1, 1), (0, 2)), (1, 2)), ((3, 10), (5, 3, 4), (2,), ((2, 1),), (2,))):
        x, weight = rng.normal(size=(2, *shape)), rng.normal(size=weight_shape)
        node = Conv(weight, None, stride, padding, dilation)
        pads = [n for pair in reversed(padding) for n in pair]
        run = torch.nn.functional.conv1d if len(shape) == 2 else torch.nn.functional.conv2d
        expected = run(torch.nn.functional.pad(torch.from_numpy(x), pads), torch.from_numpy(weight), None, stride, 0,
                       dilation)
        rows = patches(torch.from_numpy(x), node) @ torch.from_numpy(weight).reshape(weight_shape[0], -1).T
        np.testing.assert_allclose(rows.numpy(), expected.flatten(2).transpose(1, 2).reshape(-1, weight_shape[0]))


def test_the_same_data_in_another_batch_size_gives_the_same_hessian(monkeypatch):
    """Batches are a matter of memory only."""
    from neurocompress.simulation import float as simulator

    rng = np.random.default_rng(5)
    network = recurrent(rng)
    x = (rng.random((9, 15, 3)) < 0.4).astype(np.float32)
    whole = statistics(network, x).hessians[("fc", "rec")]
    monkeypatch.setattr(simulator, "BLOCK_BYTES", 2 * 5 * 15 * 4)  # two samples
    torch.testing.assert_close(statistics(network, x).hessians[("fc", "rec")], whole, rtol=1e-6, atol=1e-9)
