"""Sums stay sums: a node of weights may have several inputs and feed several populations, and stays one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_networks import image, looped, neuron, rules
from hypothesis import given, settings
from hypothesis import strategies as st
from summed_networks import KINDS, drawn, sew, spikes_for
from verdict_networks import agree, checked, deployed

from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.methods import methods
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import Recipe
from neurocompress.data.spikes import SpikeData
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.network.chip_form import chip_form
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.form import compression_form
from neurocompress.network.graph import Network
from neurocompress.network.nodes import WEIGHTED, Input, Linear, Neuron, Output, Scale
from neurocompress.simulation.arriving import arriving
from neurocompress.simulation.float import batches, simulate
from neurocompress.simulation.stateless import operation
from neurocompress.verbs.check import check
from neurocompress.verbs.deploy import deploy
from neurocompress.verbs.load import load


def summed_loop(rng: np.random.Generator, kind: str, rule: Conventions) -> Network:
    """in -> fc -> a, with `shared` fed by a, by b and by itself through b: what it is given closes a loop."""
    nodes = {
        "input": Input((4,)), "fc": Linear(rng.normal(size=(5, 4)), rng.normal(size=5) / 4), "a": neuron(rng, 5, kind),
        "shared": Linear(rng.normal(size=(5, 5)) / 2, rng.normal(size=5) / 8), "b": neuron(rng, 5, kind),
        "output": Output((5,)),
    }
    edges = (("input", "fc"), ("fc", "a"), ("a", "shared"), ("b", "shared"), ("shared", "b"), ("b", "output"))
    return Network(nodes, edges, rule)


@settings(deadline=None, max_examples=40)
@given(rules(), st.sampled_from(["IF", "LIF", "CubaLIF"]), st.sampled_from([looped, image, summed_loop]),
       st.integers(0, 999))
def test_what_a_node_is_given_is_what_the_simulator_gives_it(rule, kind, make, seed):
    """Every node without memory, applied to what it is given, sends what it sent in the run."""
    rng = np.random.default_rng(seed)
    rule = Conventions(**(vars(rule) | {"weights": "float"}))
    network = make(rng, kind, rule)
    spikes = (rng.random((3, 6, *network.shapes[network.input])) < 0.4).astype(np.uint8)
    (signals,) = batches(network, spikes, network.nodes, dtype=torch.float64)
    for name, node in network.nodes.items():
        if isinstance(node, Linear):
            x = arriving(network, name, signals)
            steps, batch = x.shape[:2]
            sent = operation(name, node, torch.float64, torch.device("cpu"), None)(x.reshape(steps * batch, -1))
            torch.testing.assert_close(sent.reshape(signals[name].shape), signals[name], rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 9999))
def test_the_form_that_compression_sees_gives_the_same_spikes(kind, seed):
    """And where nothing lies behind a layer it is the network itself: no node of weights is copied."""
    network = drawn(kind, seed)
    form = compression_form(network)
    if kind != "folded":
        assert form is network
        return
    spikes = spikes_for(network, seed)
    before, after = (simulate(n, spikes, network.populations, dtype=torch.float64) for n in (network, form))
    assert before["stem_n"].any()
    for name, found in before.items():
        np.testing.assert_allclose(after[name], found, atol=1e-9, err_msg=name)
    for name in ("stem", "c0a", "c0b", "fc"):  # the corner that is folded leaves the others as they were
        assert form.nodes[name] is network.nodes[name]
        assert form.inputs_of(name) == network.inputs_of(name)
    assert all(("wide" in note) or ("p1" in note) for note in form.notes)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 9999))
def test_the_form_for_a_chip_gives_the_same_spikes(kind, seed):
    """A layer is there once for each population that it feeds, and once more for signals of another scale."""
    network = drawn(kind, seed)
    form = chip_form(network)
    spikes = spikes_for(network, seed)
    before, after = (simulate(n, spikes, network.populations, dtype=torch.float64) for n in (network, form))
    for name, found in before.items():
        np.testing.assert_allclose(after[name], found, atol=1e-9, err_msg=name)
    assert chip_form(form) is form
    assert not any(isinstance(node, Scale) or getattr(node, "kind", "") == "average" for node in form.nodes.values())
    if kind == "sew" or (kind == "looped" and ("wb", "c") not in network.edges):
        assert weights(form) == weights(network)
    found = connections(form)
    assert len({c.name for c in found}) == len(found)
    assert {c.layer for c in found if c.trained} == set(weights(form))


def weights(network: Network) -> dict[str, tuple[int, ...]]:
    return {n: node.weight.shape for n, node in network.nodes.items() if isinstance(node, WEIGHTED)}


@pytest.mark.parametrize(("method", "kind"), [
    *((method, "sew") for method in sorted(methods())), *(("gptq", kind) for kind in sorted(KINDS) if kind != "sew"),
    ("sbc", "ms"), ("sbc", "looped")])
def test_every_method_compresses_each_layer_once(method: str, kind: str) -> None:
    """One mask and one grid for each node of weights, whatever it hears and feeds; no parameter comes or goes."""
    seed = 3
    network = drawn(kind, seed)
    recipe = Recipe(method=method, bits=4, sparsity=0.0 if method == "rtn" else 0.5)
    made = compress_network(network, spikes_for(network, seed, 3, 4), recipe)
    form = compression_form(network)
    assert weights(made.network) == weights(form)
    assert made.network.edges == form.edges
    assert made.network.parameters == form.parameters
    assert {n: layer.mask.shape for n, layer in made.layers.items()} == weights(form)
    if kind != "folded":
        assert form.parameters == network.parameters
    for name, layer in made.layers.items():
        node = made.network.nodes[name]
        assert not np.any(node.weight[~layer.mask])
        np.testing.assert_array_equal(layer.m * layer.step, layer.weight)


def test_the_file_has_the_weights_as_they_came(tmp_path: Path) -> None:
    network = drawn("sew", 5)
    made = compress_network(network, spikes_for(network, 5), Recipe(method="gptq", bits=4, sparsity=0.5))
    made.save(tmp_path / "small.nir")
    back = load(tmp_path / "small.nir")
    assert weights(back) == weights(network)
    assert set(back.edges) == set(network.edges)
    spikes = spikes_for(network, 6)
    np.testing.assert_array_equal(simulate(back, spikes)["output"], simulate(made.network, spikes)["output"])


def test_the_network_that_was_reported_keeps_its_parameters(shared: Path) -> None:
    network = load(shared / "faults/networks/sew_sums.nir")
    assert network.parameters == 24_650
    made = compress_network(network, spikes_for(network, 0, 2, 3), Recipe(method="gptq", bits=4, sparsity=0.5))
    assert made.network.parameters == 24_650
    assert weights(made.network) == weights(network)
    assert set(made.layers) == set(weights(network))


@pytest.mark.parametrize(("kind", "chip"), [*((kind, "loihi2") for kind in sorted(KINDS)), ("sew", "spinnaker2"),
                                            ("ms", "brainscales2")])
def test_on_a_chip_each_layer_has_one_mask_and_all_its_connections_the_same_integers(kind: str, chip: str) -> None:
    for seed in (1, 2) if kind == "looped" else (1,):
        network = drawn(kind, seed)
        spikes = spikes_for(network, seed)
        made = compress_for(network, load_profile(chip), spikes, Recipe(method="gptq", sparsity=0.5))
        assert {n: layer.m.shape for n, layer in made.layers.items()} == weights(made.network)
        if kind == "sew":
            assert weights(made.network) == weights(network)
        layer_of = {c.name: c.layer for c in connections(made.network)}
        for s in made.integer.synapses:
            layer = made.layers.get(layer_of[s.name])
            if layer is not None and s.weight.size == layer.m.size:  # a pool repeats them
                np.testing.assert_array_equal(np.asarray(s.weight), layer.m * made.fmt.lsb)
        if any(note.startswith("the loop through") for note in made.integer.notes):
            continue  # a loop of two populations takes two steps on a chip
        ran = simulate(made.network, spikes, network.populations)
        there = emulate(made.integer, spikes, network.populations)
        for name in network.populations:
            np.testing.assert_array_equal(there.spikes[name], ran[name])


@pytest.mark.parametrize("kind", ["sew", "ms", "looped"])
def test_check_and_deploy_have_one_verdict_of_sums(kind: str, tmp_path: Path) -> None:
    network = drawn(kind, 1)
    data = SpikeData(spikes_for(network, 1), None, "drawn")
    for chip in ("loihi2", "spinnaker2", "brainscales2"):
        found, made = checked(network, chip), deployed(network, chip, data, out=tmp_path / chip)
        assert agree(found, made), f"{chip}: {found} and {made}"


def test_what_is_deployed_has_the_parameters_that_came(tmp_path: Path) -> None:
    """In the report, in the file, and in the layers that were compressed."""
    network = drawn("sew", 4)
    data = SpikeData(spikes_for(network, 4), None, "drawn")
    made = deploy(network, "loihi2", data=data, method="gptq", sparsity=0.5, out=tmp_path / "out")
    back = load(tmp_path / "out/model.nir")
    assert made.report.totals["parameters"] == back.parameters == network.parameters
    assert weights(back) == weights(network)
    assert {n for layer in made.report.layers for n in layer.layers} == set(weights(network)) == set(
        made.compressed.layers)
    fit = check(network, "loihi2")
    assert sum(row.parameters for row in fit.rows) == network.parameters


def test_a_stage_of_36_blocks_grows_by_no_weight() -> None:
    """The third stage of SEW-ResNet152: the last block's convolution is given the sum of 36 populations."""
    network = sew(0, blocks=36, channels=2, size=2)
    assert compression_form(network) is network
    made = compress_network(network, spikes_for(network, 0, 2, 3), Recipe(method="gptq", bits=4))
    assert weights(made.network) == weights(network)
    assert len(made.layers) == 1 + 2 * 36 + 1
    form = chip_form(network)
    assert weights(form) == weights(network)
    assert len(form.nodes) == len(network.nodes)


@pytest.mark.parametrize("loop", [(("rec", "rec"),), (("rec", "more"), ("more", "rec"))])
def test_a_loop_of_layers_without_a_neuron_is_refused_by_every_way_in(loop: tuple[tuple[str, str], ...]) -> None:
    """Beside a loop that holds one, too: what comes back at once has no value."""
    one = np.ones(3)
    nodes = {"input": Input((3,)), "fc": Linear(np.eye(3)), "a": Neuron((3,), one, one, 0 * one, 2 * one, 0 * one),
             "rec": Linear(np.eye(3)), "output": Output((3,))}
    nodes |= {"more": Linear(np.eye(3))} if len(loop) > 1 else {}
    edges = (("input", "fc"), ("fc", "a"), ("a", "rec"), ("rec", "a"), ("a", "output"), *loop)
    network = Network(nodes, edges, Conventions(dt=1.0, output_delay=1))
    x = np.zeros((1, 4, 3), dtype=np.float32)
    for way in (lambda: compression_form(network), lambda: connections(network), lambda: simulate(network, x)):
        with pytest.raises(Refused, match=r"the loop (rec|rec -> more|more -> rec) holds no neuron"):
            way()
