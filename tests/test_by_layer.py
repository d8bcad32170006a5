"""Bits and sparsity by layer: the same flags and mappings on check, deploy and compress, and what they refuse."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress import check, compress, deploy, load
from neurocompress.backends import backend
from neurocompress.by_layer import as_flags, layer_of, of_flags, of_layers
from neurocompress.chip.on_chip.units import fit_units, holds_both_signs, weight_format
from neurocompress.chip.profile.load import load_profile, profile_names
from neurocompress.compression.recipe import recipe_of
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Node, Output
from neurocompress.simulation.float import simulate

RNG = np.random.default_rng(5)
SPIKES = (RNG.random((6, 20, 8)) < 0.4).astype(np.uint8)


def network(*names: str) -> Network:
    """8 inputs, then layers of 8 neurons by these names."""
    nodes: dict[str, Node] = {"input": Input((8,))}
    for name in names:
        nodes |= {name: Linear(np.random.default_rng(len(nodes)).normal(0.2, 0.5, (8, 8))),
                  f"{name}.n": Neuron((8,), np.ones(8), np.ones(8), np.zeros(8), 4 * np.ones(8), np.zeros(8))}
    nodes["output"] = Output((8,))
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.nir"
    backend("nir").write(network("conv1", "fc1", "fc2"), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, spikes=SPIKES, labels=np.arange(6) % 8)
    return path


@pytest.mark.parametrize(("name", "layer"), [
    ("fc", "fc"), ("fc@1", "fc@1"), ("fc@a>b", "fc"), ("fc@1@a>b", "fc@1"), ("fc@>b", "fc"), ("fc@a>b#2", "fc"),
    ("fc@a>b@1", "fc"), ("fc@behind", "fc"), ("@a", "@a")])
def test_only_what_a_copy_is_called_is_left_out_of_the_name_of_its_layer(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_a_layer_with_an_at_sign_in_its_name_is_another_than_that_without() -> None:
    names = ("fc", "fc@1", "fc@1@a>b")
    assert of_layers("bits", {"fc": 4}, names) == {"fc": 4}
    assert of_layers("bits", {"fc@1": 4}, names) == {"fc@1": 4, "fc@1@a>b": 4}
    assert as_flags("--bits", {"fc@1": 4}, names) == "--bits fc@1=4"


def test_numbers_go_to_the_layers_whose_names_match() -> None:
    names = ("conv1", "fc1", "fc2", "fc2@a>b")
    assert of_layers("bits", 4, names) == dict.fromkeys(names, 4)
    assert of_layers("bits", {"fc*": 2, "*": 8}, names) == {"conv1": 8, "fc1": 2, "fc2": 2, "fc2@a>b": 2}
    assert of_layers("bits", {"fc*": 2, "fc2": 3}, names) == {"fc1": 2, "fc2": 3, "fc2@a>b": 3}
    assert of_layers("bits", None, names) == of_layers("bits", {}, names) == {}
    assert of_layers("bits", {"a[1]": 3}, ("a[1]", "a1")) == {"a[1]": 3, "a1": 3}
    with pytest.raises(Refused, match=r"'cfv'.*Layers with weights: conv1, fc1, fc2\n") as caught:
        of_layers("bits", {"cfv": 1, "fc1": 2, "Fc*": 3}, names)
    assert len(caught.value.problems) == 2


def test_flags_say_what_mappings_say() -> None:
    assert of_flags("--bits", (), int) is None
    assert of_flags("--bits", ("4",), int) == 4
    assert of_flags("--sparsity", ("fc*=0.75", "0.5", "a=b=0.1"), float) == {"fc*": 0.75, "*": 0.5, "a=b": 0.1}
    for wrong in ("four", "fc*=4.5", "=4", "", "fc1=", "fc1"):
        with pytest.raises(Refused, match="--bits is"):
            of_flags("--bits", (wrong,), int)


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="@"), min_size=1), min_size=1, max_size=4,
                      unique=True), data=st.data())
def test_flags_that_are_printed_name_just_these_layers(names: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    numbers = {name: data.draw(st.sampled_from([0.5, 0.75, 0.999])) for name in chosen}
    words = shlex.split(as_flags("--sparsity", numbers, names))
    assert set(words[::2]) == {"--sparsity"}
    given = of_flags("--sparsity", words[1::2], float)
    assert given is not None
    assert of_layers("sparsity", given, names) == numbers


def test_check_counts_what_patterns_say(model: Path, run: Run) -> None:
    seen = run("check", model, "--target", "loihi1", "--bits", "fc*=4", "--bits", "fc2=2", "--sparsity", "conv1=0.75",
               "--json")
    assert seen.status == 0
    assert [(x["layer"], x["bits"], x["synapses"]) for x in seen.json["layers"]] == [
        ("conv1", 8, 16), ("fc1", 4, 64), ("fc2", 2, 64)]
    assert check(model, "loihi1", bits={"fc*": 4, "fc2": 2}, sparsity={"conv1": 0.75}).to_dict()["layers"] == (
        seen.json["layers"])
    for flags in (("--bits", "cvonv*=4"), ("--sparsity", "fc3=0.5")):
        seen = run("check", model, "--target", "loihi1", *flags)
        assert (seen.status, "Layers with weights: conv1, fc1, fc2" in seen.err) == (2, True)
    seen = run("check", model, "--target", "loihi1", "--fit", "--bits", "fc*=4")
    assert (seen.status, "gives all layers the same bits" in seen.err) == (2, True)
    assert run("check", model, "--target", "loihi1", "--bits", "fc*=99").status == 2


def test_compress_does_what_patterns_say(model: Path, data: Path, tmp_path: Path, run: Run) -> None:
    seen = run("compress", model, "--data", data, "--method", "gptq", "--bits", "8", "--bits", "fc*=3", "--sparsity",
               "fc2=0.75", "--out", tmp_path / "out.nir", "--json")
    assert seen.status == 0
    assert [(x["name"], x["bits"], x["sparsity"] >= 0.75) for x in seen.json["layers"]] == [
        ("conv1", 8, False), ("fc1", 3, False), ("fc2", 3, True)]
    made = compress(model, data, method="gptq", bits={"*": 8, "fc*": 3}, sparsity={"fc2": 0.75})
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(layer.weight, load(tmp_path / "out.nir").nodes[name].weight)  # type: ignore[union-attr]
    seen = run("compress", model, "--data", data, "--bits", "fcc=3", "--out", tmp_path / "x.nir")
    assert (seen.status, "no layer matches 'fcc'" in seen.err) == (2, True)
    assert run("compress", model, "--data", data, "--bits", "fc1=99", "--out", tmp_path / "x.nir").status == 2


def test_deploy_does_what_patterns_say(model: Path, data: Path, tmp_path: Path, run: Run) -> None:
    seen = run("deploy", model, "--target", "loihi2", "--data", data, "--method", "gptq", "--bits", "fc1=3",
               "--sparsity", "fc2=0.75", "--out", tmp_path / "bundle", "--json")
    assert seen.status == 0
    assert seen.json["options"]["bits"] == {"fc1": 3}
    assert [x["bits"] for x in seen.json["fit"]["layers"]] == [8, 3, 8]
    assert [x["sparsity"] >= 0.75 for x in seen.json["layers"]] == [False, False, True]
    made = deploy(model, "loihi2", data=data, method="gptq", bits={"fc1": 3}, sparsity={"fc2": 0.75})
    assert {s.name: s.bits for s in made.integer.synapses} == {"conv1": 8, "fc1": 3, "fc2": 8}
    for *flags, status in (("--bits", "fc9=3", 2), ("--bits", "fc1=7.5", 2), ("--fit", "--bits", "fc1=3", 2),
                           ("--bits", "fc1=9", 1)):
        seen = run("deploy", model, "--target", "loihi2", "--data", data, *flags, "--out", tmp_path / "no")
        assert seen.status == status


@pytest.mark.parametrize("target", profile_names())
def test_layers_of_different_bits_mean_the_same_on_a_chip(target: str) -> None:
    """Weights times gains of what the chip stores are those of the compressed network, layer by layer."""
    profile = load_profile(target).model_copy(update={"emits": ()})  # numbers, not files: lava-dl's have no feedback
    # one bit with its sign inside holds no number above 0 (NC105)
    bits = [b for b in sorted(profile.weights.bits.value or []) if holds_both_signs(profile, b)]
    loop = network("fc1", "fc2")
    nodes = {**loop.nodes, "back": Linear(np.random.default_rng(9).normal(0, 0.2, (8, 8)))}
    loop = Network(nodes, (*loop.edges, ("fc2.n", "back"), ("back", "fc2.n")), loop.conventions)
    chosen = {"fc2": bits[0], "back": bits[-1]}
    made = compress_for(loop, profile, SPIKES, recipe_of(method="gptq"), bits=chosen)
    assert {n: made.layers[n].bits for n in chosen} == chosen
    chip = made.integer
    for s in chip.synapses:
        unit = made.units[s.target]
        value = np.asarray(s.weight) * 2.0**s.exponent / np.broadcast_to(unit.vth, (8,))[:, None]  # in thresholds
        np.testing.assert_allclose(value, made.layers[s.name].weight / 4, rtol=1e-9, atol=1e-12)  # gain 1 / tau
        assert np.abs(made.layers[s.name].m).max() <= (1 << s.bits)  # type: ignore[arg-type]
    if target == "loihi2":
        again = simulate(made.network, SPIKES, ("fc1.n",))["fc1.n"]
        near = emulate(chip, SPIKES, ("fc1.n",)).spikes["fc1.n"]
        assert np.mean(again != near) < 0.02


def test_units_of_connections_of_other_bits_have_their_own_steps() -> None:
    from neurocompress.deployment.compress_for_chip import arithmetic_of

    for target in ("loihi2", "spinnaker2", "brainscales2"):
        profile = load_profile(target)
        fmt, arithmetic = weight_format(profile, None), arithmetic_of(profile)[0]
        wanted = {"a": np.asarray(0.01), "b": np.asarray(0.04)}
        unit = fit_units(wanted, {"a": 10, "b": 10}, fmt, arithmetic, 2.0, "n", {"b": 4 * fmt.lsb})
        for name, lsb in (("a", fmt.lsb), ("b", 4 * fmt.lsb)):
            np.testing.assert_allclose(unit.steps[name], lsb * 2.0 ** unit.exponents[name] / unit.vth)
            assert np.max(unit.steps[name]) >= float(wanted[name]) * 0.99
