"""Rows as strong as it takes for their neurons to fire as often as before: against simulations of scaled weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from drawn_networks import neuron, rules
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_statistics import model_of

from neurocompress.compression.layerwise import population as layerwise
from neurocompress.compression.layerwise.firing_rates import GAINS, row_scales
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import recipe_of
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate


def chain(rng: np.random.Generator, kind: str, rule: Conventions) -> Network:
    """in -> fc -> a -> wait -> fc2 -> b -> out."""
    nodes = {"input": Input((6,)), "fc": Linear(rng.normal(size=(5, 6)), rng.normal(size=5) / 4),
             "a": neuron(rng, 5, kind), "wait": Delay(np.array([1.0, 0, 2, 0, 0])),
             "fc2": Linear(rng.normal(size=(4, 5)), rng.normal(size=4) / 4), "b": neuron(rng, 4, "LIF"),
             "output": Output((4,))}
    return Network(nodes, tuple(pairwise(nodes)), rule)


def scaled(network: Network, layer: str, scales: np.ndarray) -> Network:
    node = network.nodes[layer]
    rows = scales.reshape(-1, *(1,) * (node.weight.ndim - 1))
    return network.with_nodes({layer: replace(node, weight=node.weight * rows, bias=node.bias * scales)})


def counts(network: Network, population: str, spikes: np.ndarray) -> np.ndarray:
    """Spikes of each neuron, or of each channel's."""
    found = simulate(network, spikes, (population,))[population].sum(axis=(0, 1))
    return found.reshape(len(found), -1).sum(axis=1)


def counted(network: Network, population: str, spikes: np.ndarray, gains: Sequence[float] = GAINS) -> np.ndarray:
    """As the walk counts them, (gains, rows)."""
    model = model_of(network, spikes)
    (stage,) = (stage for stage in model.stages() if stage.population == population)
    return model.stream().counts(stage, {}, gains)


@settings(deadline=None, max_examples=60)
@given(rules(), st.sampled_from(["IF", "LIF", "CubaLIF"]), st.integers(0, 2**32 - 1), st.sampled_from([1 / 8, 1, 4]))
def test_a_neuron_with_a_gain_fires_as_one_with_scaled_weights(rule, kind, seed, gain):
    """Gains are powers of two, so that both ways round alike. Leaks are no input: they are left out of the scaling."""
    rng = np.random.default_rng(seed)
    rule = replace(rule, weights="float")
    network = chain(rng, kind, rule)
    spikes = (rng.random((7, 9, 6)) < 0.4).astype(np.float32)
    for layer, population in (("fc", "a"), ("fc2", "b")):
        found = counted(network, population, spikes, (1.0, gain))
        many = np.full(len(found[0]), float(gain))
        np.testing.assert_array_equal(found[0], counts(network, population, spikes))
        np.testing.assert_array_equal(found[1], counts(scaled(network, layer, many), population, spikes))


def image(rng: np.random.Generator) -> Network:
    one = np.ones(())
    lif = Neuron((8, 6, 6), r=one, v_threshold=one, v_reset=0 * one, tau_mem=2 * one, v_leak=0 * one)
    conv = Conv(rng.normal(0.1, 0.7, size=(8, 2, 3, 3)), rng.normal(size=8) / 10, (1, 1), ((1, 1), (1, 1)), (1, 1))
    nodes = {"input": Input((2, 6, 6)), "conv": conv, "lif": lif, "output": Output((8, 6, 6))}
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_rows_that_became_weaker_are_brought_back(seed):
    rng = np.random.default_rng(seed)
    network, spikes = image(rng), (rng.random((12, 10, 2, 6, 6)) < 0.3).astype(np.float32)
    lost = rng.uniform(0.4, 1.3, 8)
    weak = scaled(network, "conv", lost)
    found = row_scales(counted(weak, "lif", spikes), wanted := counts(network, "lif", spikes))
    before = counts(weak, "lif", spikes)
    after = counts(scaled(weak, "conv", found), "lif", spikes)
    loud = wanted > 200  # of 4320: others are told from too few spikes
    np.testing.assert_allclose((found * lost)[loud], 1.0, atol=0.08)
    np.testing.assert_allclose(after[loud], wanted[loud], rtol=0.1)
    assert np.abs(after - wanted).sum() <= np.abs(before - wanted).sum()


def test_silent_rows_stay_and_no_row_leaves_the_range():
    rng = np.random.default_rng(0)
    network, spikes = image(rng), (rng.random((6, 10, 2, 6, 6)) < 0.3).astype(np.float32)
    nothing, faint = np.ones(8), np.ones(8)
    nothing[2], faint[4] = 0.0, 1e-3
    wanted, silent = counts(network, "lif", spikes), scaled(network, "conv", nothing)
    assert row_scales(counted(silent, "lif", spikes), wanted)[2] == 1.0  # nothing left to scale
    assert row_scales(counted(network, "lif", spikes), counts(silent, "lif", spikes))[2] == 1.0  # silent before
    found = row_scales(counted(scaled(network, "conv", faint), "lif", spikes), wanted)
    assert found.min() >= GAINS[0]
    assert found.max() <= GAINS[-1]


def alone(network: Network, population: str, kept: frozenset[str] = frozenset()) -> bool:
    (stage,) = (s for s in model_of(network, None).stages(kept) if s.population == population)
    return stage.alone


def test_only_layers_that_alone_make_neurons_spike_are_scaled():
    rng = np.random.default_rng(1)
    network = chain(rng, "LIF", Conventions(dt=1.0))
    assert alone(network, "a")
    assert not alone(network, "a", frozenset({"fc"}))
    loop = replace(network, nodes=network.nodes | {"rec": Linear(rng.normal(size=(5, 5)))},
                   edges=(*network.edges, ("a", "rec"), ("rec", "a")))
    assert not alone(loop, "a")  # what it hears changes with what it says
    potentials = network.with_nodes({"b": replace(network.nodes["b"], v_threshold=None, v_reset=None)})
    assert not alone(potentials, "b")


def drawn() -> tuple[Network, np.ndarray]:
    """Three layers of LIF neurons with biases, and correlated input: what pruning takes away is missed."""
    rng, sizes = np.random.default_rng(5), (30, 60, 60, 12)
    nodes: dict[str, object] = {"input": Input((30,))}
    for k, (d, n) in enumerate(pairwise(sizes), 1):
        one = np.ones(n)
        nodes[f"fc{k}"] = Linear(rng.normal(0.03, 2.5 / np.sqrt(d), size=(n, d)), rng.normal(0.2, 0.1, size=n))
        nodes[f"lif{k}"] = Neuron((n,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=2 * one, v_leak=0 * one)
    nodes["output"] = Output((12,))
    rate = rng.random((40, 1, 30)) < 0.4
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0)), (  # type: ignore[arg-type]
        rate & (rng.random((40, 25, 30)) < 0.7)).astype(np.float32)


@pytest.mark.parametrize("asked", [{}, {"bits": 4}, {"biases": "corrected"}, {"biases": "corrected", "bits": 4}],
                         ids=["pruned", "and quantized", "biases corrected", "both"])
def test_a_compressed_network_fires_as_often_as_before(monkeypatch, asked):
    network, spikes = drawn()
    recipe = recipe_of(method="sbc", sparsity=0.9, distill=0, **asked)

    def off(compressed: Network) -> float:
        """How far each population's spikes are from the original's, as a share; the mean."""
        found, wanted = ([counts(n, p, spikes).sum() for p in ("lif1", "lif2", "lif3")] for n in (compressed, network))
        return float(np.mean([abs(a / b - 1) for a, b in zip(found, wanted, strict=True)]))

    result = compress_network(network, spikes, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(layerwise, "row_scales", lambda found, wanted: np.ones(len(wanted)))
        without = compress_network(network, spikes, recipe)
    assert off(result.network) < 0.05
    assert off(without.network) > 3 * off(result.network)
    if "bits" not in asked:  # how strong rows are is no part of what a layer lost
        assert result.layers["fc1"].error == pytest.approx(without.layers["fc1"].error, rel=1e-9)
        assert not np.allclose(result.layers["fc1"].weight, without.layers["fc1"].weight)
    for layer in result.layers.values():
        assert np.array_equal(layer.weight != 0, layer.mask) or "bits" in asked
        if layer.m is not None:
            np.testing.assert_array_equal(layer.weight, layer.m * layer.step)


def test_a_layer_that_nothing_changed_keeps_its_weights_to_the_bit():
    network, spikes = drawn()
    result = compress_network(network, spikes, recipe_of(
        method="sbc", distill=0, sparsity=0.5, layers=({"match": "fc1", "sparsity": 0.0},)))
    np.testing.assert_allclose(result.network.nodes["fc1"].weight, network.nodes["fc1"].weight, rtol=1e-12)
    np.testing.assert_array_equal(result.network.nodes["fc1"].bias, network.nodes["fc1"].bias)
