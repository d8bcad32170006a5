"""The walk: every stage is given what it would be given in the whole network, and no population runs more often in a
deeper one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from drawn_networks import image, looped, neuron, rules
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stage_statistics import model_of

from neurocompress.compression.compressed_layer import CompressedLayer
from neurocompress.compression.model import Stage
from neurocompress.compression.network_model import NetworkModel
from neurocompress.compression.oneshot import compress_network, row_gains
from neurocompress.compression.recipe import recipe_of
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.simulation import float as simulator
from neurocompress.simulation.float import simulate
from neurocompress.simulation.kept import Kept, Room


def two_loops(rng: np.random.Generator, kind: str, rule: Conventions) -> Network:
    """in -> fc -> a -> ab -> b -> bc -> c -> out with b -> ba -> a (one loop of two populations) and c -> cc -> c."""

    def linear(rows: int, d: int) -> Linear:
        return Linear(rng.normal(0.2, 1, (rows, d)))

    nodes = {"input": Input((4,)), "fc": linear(5, 4), "a": neuron(rng, 5, kind), "ab": linear(6, 5),
             "b": neuron(rng, 6, kind), "ba": linear(5, 6), "bc": linear(3, 6), "c": neuron(rng, 3, "LIF"),
             "cc": linear(3, 3), "output": Output((3,))}
    chain = ("input", "fc", "a", "ab", "b", "bc", "c", "output")
    return Network(nodes, (*pairwise(chain), ("b", "ba"), ("ba", "a"), ("c", "cc"), ("cc", "c")), rule)


def other(network: Network, layers: tuple[str, ...], rng: np.random.Generator) -> dict[str, CompressedLayer]:
    """These layers with other weights."""
    found = {}
    for name in layers:
        node = network.nodes[name]
        weight = node.weight * rng.choice([0.0, 1.0, 1.5], size=node.weight.shape)
        found[name] = CompressedLayer(weight, None, None, None, weight != 0, node.bias, None, 0, 0, 1, None, 0, 0.01)
    return found


def changed(network: Network, layers: dict[str, CompressedLayer]) -> Network:
    return network.with_nodes({n: replace(network.nodes[n], weight=x.weight) for n, x in layers.items()})


def given_to(network: Network, layer: str, x: np.ndarray) -> np.ndarray:
    """What arrives at a layer's neurons of what it is given, by running the whole network, (samples, steps, *shape)."""
    (source,) = network.inputs_of(layer)
    signal = x if source == network.input else simulate(network, x, (source,))[source]
    lag, name = 0, layer
    while name not in network.populations:
        (after,) = network.outputs_of(name)
        if (name, after) in network.feedback:
            lag += 1
        elif isinstance(network.nodes[after], Neuron):  # a Threshold has no synapses that wait
            lag += network.conventions.synaptic_delay
        name = after
    return np.concatenate([np.zeros_like(signal[:, :lag]), signal[:, : signal.shape[1] - lag]], axis=1)


DRAWN = {"looped": looped, "image": image, "two loops": two_loops}


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(DRAWN)), rules(), st.sampled_from(["IF", "LIF", "CubaLIF"]), st.integers(0, 2**32 - 1),
       st.sampled_from([0, 10**9]))
def test_every_stage_is_given_what_the_whole_network_gives_it(shape, rule, kind, seed, memory):
    """Before and behind layers that changed, all samples and some; what a stream holds, in memory or on disk, is the
    same signal."""
    rng = np.random.default_rng(seed)
    # one spike per step: sums of very many round as the size of a batch has it
    network = DRAWN[shape](rng, kind, replace(rule, weights="float", output_delay=0, spikes_per_step="one"))
    x = (rng.random((7, 6, *network.shapes["input"])) < 0.5).astype(np.float32)
    model = NetworkModel(network, row_gains(network), x, memory=memory)
    original, compressed, done = model.stream(), model.stream(), {}
    some = np.array([1, 4, 5])
    for stage in model.stages():
        sent = [batch.spikes.transpose(0, 1).numpy() for batch in original.run(stage)]
        np.testing.assert_array_equal(np.concatenate(sent), simulate(network, x, (stage.population,))[stage.population])
        now = changed(network, done)
        for name in stage.layers:
            for stream, whole in ((original, network), (compressed, now)):
                for samples in (None, some):
                    parts = [b.inputs[name].transpose(0, 1).numpy() for b in stream.inputs(stage, samples)]
                    expected = given_to(whole, name, x)
                    np.testing.assert_array_equal(
                        np.concatenate(parts), expected if samples is None else expected[some])
        mine = other(network, stage.layers, rng)
        if stage.alone:
            trial = changed(now, mine)
            spikes = simulate(trial, x, (stage.population,))[stage.population].sum(axis=(0, 1))
            found = compressed.counts(stage, mine, (1.0,))[0]
            np.testing.assert_array_equal(found, spikes.reshape(len(found), -1).sum(axis=1))
        compressed.put(mine)
        done |= mine


@settings(deadline=None, max_examples=100)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 5)),
                  elements=st.one_of(st.sampled_from([0.0, 1.0]), st.integers(0, 300), st.floats(-2, 2, width=32))),
       st.sampled_from([0, 1000]))
def test_a_signal_that_is_held_comes_back_as_it_was(x, memory):
    room = Room(memory)
    kept = Kept(room, x.shape[1], x.shape[2:])
    for batch in (x[:2], x[2:]):
        if len(batch):
            kept.add(batch)
    np.testing.assert_array_equal(kept[:], x)
    np.testing.assert_array_equal(kept[np.arange(len(x))[::2]], x[::2])
    assert kept[:].dtype == np.float32
    kept.free()
    assert room.left == memory


def chain(depth: int) -> Network:
    rng, one = np.random.default_rng(depth), np.ones(6)
    nodes = {"input": Input((6,))}
    for k in range(depth):
        nodes[f"fc{k}"] = Linear(rng.normal(0.1, 0.6, (6, 6)))
        nodes[f"n{k}"] = Neuron((6,), one, 0.4 * one, 0 * one, 2 * one, 0 * one)
    nodes["output"] = Output((6,))
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@pytest.mark.parametrize("asked", [{"method": "sbc", "sparsity": 0.5}, {"method": "sbc", "bits": 4},
                                   {"method": "sbc", "sparsity": 0.5, "allocation": "loss"},
                                   {"method": "sbc-paper", "sparsity": 0.5}], ids=str)
def test_passes_of_a_population_do_not_grow_with_depth(monkeypatch, asked):
    """Counted by the membranes that are made, one for each batch of a population that runs."""
    made, real = [0], simulator.Membrane

    def counted(*given):
        made[0] += 1
        return real(*given)

    monkeypatch.setattr(simulator, "Membrane", counted)
    passes = {}
    for depth in (4, 16, 64):
        x = (np.random.default_rng(1).random((5, 8, 6)) < 0.6).astype(np.float32)
        made[0] = 0
        compress_network(chain(depth), x, recipe_of(distill=0, **asked))
        passes[depth] = made[0] / depth
    assert max(passes.values()) <= 15.0  # at most: two before, one behind, and twelve gains
    assert passes[64] <= 1.1 * passes[16]


def test_what_no_later_stage_needs_is_not_held():
    network = chain(12)
    x = (np.random.default_rng(1).random((5, 8, 6)) < 0.6).astype(np.float32)
    model = model_of(network, x)
    stream = model.stream()
    most = 0
    for stage in model.stages():
        for _ in stream.run(stage):
            pass
        most = max(most, len(stream._sent))
    assert most == 2  # what the stage was given, and what it sent


def test_a_stage_has_the_filter_of_its_population():
    stages: tuple[Stage, ...] = model_of(chain(2), None).stages()
    assert [s.population for s in stages] == ["n0", "n1"]
    assert all(float(s.step.beta.mean()) == 0.5 for s in stages if s.step is not None)
    assert torch.equal(stages[0].modules[0].columns, torch.arange(6))
