"""How networks end: membranes that are read, layers behind the last neurons, and what the host computes of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import runner
from hypothesis import given, settings
from hypothesis import strategies as st

import neurocompress as nc
from neurocompress.chip.profile.features import readout_on
from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.finetuning.output_loss import read_over_time
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import LayerRecipe, Recipe
from neurocompress.data.spikes import SpikeData
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.fit.check import check_fit
from neurocompress.network.canonical import matrix_of
from neurocompress.network.conventions import PRESETS, Conventions
from neurocompress.network.ends import tail
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Output, Pool, Scale, Threshold
from neurocompress.network.readout import read
from neurocompress.simulation.float import simulate
from neurocompress.targets.nir import write
from neurocompress.verification.verify import emulator_engine

ENDS = ("linear", "conv", "flatten", "scale", "pool", "average", "two", "two linear", "li", "cuba li", "i", "spikes",
        "pool linear")
CHIPS = ("loihi1", "loihi2", "spinnaker2", "tianjic", "brainscales2")


def network(end: str, rng: np.random.Generator, bias: bool = True, reading: str = "mean") -> Network:
    """A convolution into spiking neurons, 2 x 6 x 6 to 3 x 4 x 4, and one way to end."""
    def linear(n: int, m: int) -> Linear:
        return Linear(rng.normal(size=(n, m)).astype(np.float32),
                      rng.normal(size=n).astype(np.float32) / 4 if bias else None)

    def conv(c: int, k: int, size: int) -> Conv:
        weight = rng.normal(size=(c, k, size, size)).astype(np.float32) / size
        return Conv(weight, None, (1, 1), ((0, 0), (0, 0)), (1, 1))

    def lif(shape: tuple[int, ...], kind: str = "LIF") -> Neuron:
        one = np.ones(shape)
        more = {"tau_mem": 8e-3 * one} if "L" in kind else {}
        more |= {"v_threshold": one} if "F" in kind else {}
        more |= {"tau_syn": 4e-3 * one} if "Cuba" in kind else {}
        return Neuron(shape, r=8 * one if "L" in kind else one, **more)

    pool = Pool("average" if end == "average" else "sum", (2, 2), (2, 2), ((0, 0), (0, 0)))
    behind = {
        "linear": [("flat", Flatten()), ("fc", linear(5, 48))],
        "conv": [("conv2", conv(4, 3, 2))], "flatten": [("flat", Flatten())],
        "scale": [("scale", Scale(rng.uniform(0.5, 2, size=(3, 1, 1))))],
        "pool": [("pool", pool), ("flat", Flatten())], "average": [("pool", pool), ("flat", Flatten())],
        "pool linear": [("pool", pool), ("flat", Flatten()), ("fc", linear(5, 12))],
        "li": [("flat", Flatten()), ("fc", linear(5, 48)), ("out", lif((5,), "LI"))],
        "cuba li": [("flat", Flatten()), ("fc", linear(5, 48)), ("out", lif((5,), "CubaLI"))],
        "i": [("flat", Flatten()), ("fc", linear(5, 48)), ("out", lif((5,), "I"))], "spikes": [],
    }.get(end, [("conv2", conv(3, 3, 1)), ("lif2", lif((3, 4, 4)))])
    nodes = {"input": Input((2, 6, 6)), "conv1": conv(3, 2, 3), "lif1": lif((3, 4, 4)), **dict(behind)}
    edges = [*pairwise([*nodes, "output"])]
    nodes["output"] = Output()
    if end == "two":
        edges.append(("lif1", "output"))
    if end == "two linear":
        nodes |= {f"fc{k}": linear(5, 48) for k in "ab"} | {f"flat{k}": Flatten() for k in "ab"}
        edges = [e for e in edges if e[1] != "output"] + [
            *pairwise(("lif1", "flata", "fca", "output")), *pairwise(("lif2", "flatb", "fcb", "output"))]
    return Network(nodes, tuple(edges), Conventions(dt=1e-3, reading=reading))


def data(rng: np.random.Generator, samples: int = 6, steps: int = 16) -> np.ndarray:
    return (rng.random((samples, steps, 2, 6, 6)) < 0.3).astype(np.uint8)


def dense(end: Network, spikes: dict[str, np.ndarray]) -> np.ndarray:
    """What the layers behind the last neurons make of given spikes, float64, by explicit matrices: (n, T, outputs)."""
    values = {name: s.reshape(*s.shape[:2], -1).astype(np.float64) for name, s in spikes.items()}
    for name in end.order:
        node = end.nodes[name]
        if name in values or isinstance(node, Input) or not all(a in values for a in end.inputs_of(name)):
            continue
        x = sum(values[a] for a in end.inputs_of(name))
        if isinstance(node, Output):
            values[name] = x
            continue
        matrix = matrix_of(node, end.shapes[end.inputs_of(name)[0]])
        bias = getattr(node, "bias", None)
        values[name] = np.einsum("ij,ntj->nti", matrix.toarray(), x) + (0 if bias is None else bias)
    return values[end.output]


def best(reading: str, out: np.ndarray) -> np.ndarray:
    """What is read, (samples, outputs)."""
    return {"mean": out.sum(axis=1), "last": out[:, -1], "max": out.max(axis=1)}[reading]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ENDS), st.sampled_from(["mean", "last", "max"]),
       st.sampled_from(sorted(PRESETS)))
def test_a_population_at_the_end_reads_as_the_layers_before_it(seed: int, end: str, reading: str, preset: str) -> None:
    """In floating point: the membrane's reading is that of the outputs, whatever the conventions."""
    rng = np.random.default_rng(seed)
    made = network(end, rng)
    made = replace(made, conventions=replace(PRESETS[preset], dt=1e-3, weights="float", reading=reading))
    found = tail(made, kinds=("I", "LI", "IF", "LIF", "CubaLI", "CubaLIF"), membrane=True)
    spikes = data(rng)
    before = read(made, simulate(made, spikes)["output"])
    after = read(found.whole(found.chip), simulate(found.whole(found.chip), spikes)["output"])
    factor = 4.0 if end == "average" and not found.edges else 1.0  # a sum instead
    assert np.allclose(after, factor * before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chip", ["loihi2", "spinnaker2", "tianjic"])
@pytest.mark.parametrize("end", ENDS)
def test_what_is_read_on_a_chip_is_what_its_last_layers_make_of_its_spikes(end: str, chip: str) -> None:
    """Against explicit matrices of the weights on the grid, over the spikes that the chip's populations sent."""
    for reading in ("mean", "last", "max") if end in ("linear", "two") else ("mean",):
        rng = np.random.default_rng(sum(map(ord, end + chip + reading)))
        made, spikes = network(end, rng, bias=False, reading=reading), data(rng)
        profile = load_profile(chip)
        ends = readout_on(made, profile)
        compressed = replace(compress_for(ends.chip, profile, spikes, Recipe(method="rtn")), tail=ends)
        integer = compressed.integer_network()
        engine = emulator_engine(integer, {}, whole=compressed.whole)
        sent = engine.run(spikes)
        found = engine.score(sent["output"])
        layers = {n: compressed.whole.nodes.get(n, made.nodes[n]) for n in made.nodes}
        for name in ("scale", "pool"):  # the chip has them as weights of their own, or as sums
            if name in layers:
                layers[name] = made.nodes[name]
        there = made.with_nodes(layers)
        if end in ("li", "cuba li", "i", "spikes"):
            continue
        want = best(reading if end != "flatten" else "mean",
                    dense(there, {p: sent[p] for p in ("lif1", "lif2") if p in sent}))
        if end == "average" and not ends.edges:
            want = 4 * want
        assert found.shape == want.shape
        # a grid of its own for what is no layer of weights: half a step of 1/127 for each
        rough = 0.02 * np.abs(want).max() if end in ("scale", "pool", "average") or reading != "mean" else 1e-4
        assert np.allclose(found, want, atol=max(rough, 1e-6 * np.abs(want).max())), (end, chip, reading)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["loihi1", "loihi2", "tianjic", "spinnaker2"]), st.booleans(),
       st.floats(-6, 4))
def test_potentials_on_a_chip_are_in_the_models_units(seed: int, chip: str, bias: bool, power: float) -> None:
    """Neurons that integrate, each with a gain of its own, weights of any size: against a running sum in float64."""
    rng = np.random.default_rng(seed)
    made = network("i", rng, bias=bias)
    layer, size = made.nodes["fc"], 10.0**power
    assert isinstance(layer, Linear)
    gain = rng.uniform(0.5, 2, 5) * rng.choice([-1, 1], 5)
    made = made.with_nodes({
        "fc": replace(layer, weight=layer.weight * size, bias=None if layer.bias is None else layer.bias * size),
        "out": Neuron((5,), r=gain / 1e-3)})
    profile, spikes = load_profile(chip), data(rng)
    assert check_fit(made, profile).fits
    compressed = compress_for(made, profile, spikes, Recipe(method="rtn"))
    sent = emulator_engine(compressed.integer_network(), {}).run(spikes)
    after = compressed.network.nodes["fc"]
    assert isinstance(after, Linear)
    drive = sent["lif1"].reshape(6, 16, -1) @ after.weight.astype(np.float64).T
    if after.bias is not None:
        drive = drive + after.bias
    want = (drive * gain).cumsum(axis=1)
    rough = 1e-6 if after.bias is None else 0.02  # a bias has 13 bits beside the largest one
    assert np.allclose(sent["out"], want, rtol=0, atol=rough * np.abs(want).max())


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("end", ENDS)
def test_every_end_is_checked_and_deployed_alike(end: str, chip: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(ENDS.index(end))
    write(network(end, rng), tmp_path / "model.nir")
    spikes = data(rng, 4, 8)
    labels = np.arange(4) % 3
    verdict = nc.check(tmp_path / "model.nir", chip)
    made = nc.deploy(tmp_path / "model.nir", chip, data=SpikeData(spikes, labels, "drawn"), method="rtn",
                     out=tmp_path / "bundle")
    assert verdict.fits == made.fit.fits
    ran = nc.simulate(tmp_path / "bundle", SpikeData(spikes, labels, "drawn"), engine="emulator")
    report = made.report
    assert report.accuracy is not None
    assert ran.accuracy == report.accuracy["emulated"]
    floating = nc.simulate(tmp_path / "bundle", SpikeData(spikes, labels, "drawn"))
    assert floating.accuracy == report.accuracy["compressed"]
    assert ran.read_by == report.readout.by
    compared = nc.compare(tmp_path / "model.nir", tmp_path / "bundle", SpikeData(spikes, labels, "drawn"))
    assert compared.accuracy is not None
    assert compared.accuracy[1] == ran.accuracy
    assert compared.agreement == report.agreement["emulated"]


def test_the_faults_run_to_the_end(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(capsys)
    for name in ("o_lastlin", "q_out_flat", "q_out_two", "o_poolout", "q_onlylin", "o_li", "q_thrhalf_maxpool"):
        model, spikes = (shared / "faults" / "networks" / f"{name}.{kind}" for kind in ("nir", "npz"))
        for chip in ("loihi2", "spinnaker2"):
            assert run("check", model, "--target", chip).status == 0
            seen = run("deploy", model, "--target", chip, "--data", spikes, "--json", "--out",
                       tmp_path / f"{name}-{chip}")
            assert seen.status == 0, (name, chip, seen.err)
            assert seen.json["agreement_with_float"]["emulated"] == 100.0


@pytest.mark.parametrize(("name", "readout"), [
    ("o_lastlin", "auto"), ("o_lastlin", "host"), ("q_out_two", "auto"), ("o_li", "auto"),
    ("q_thrhalf_maxpool", "auto"),
])
def test_lava_and_the_emulator_agree_on_what_is_read(
    name: str, readout: str, shared: Path, lava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, faults = runner(capsys), shared / "faults" / "networks"
    spikes = np.load(faults / f"{name}.npz")["spikes"].astype(np.uint8)
    np.savez(tmp_path / "d.npz", spikes=spikes)
    assert run("deploy", faults / f"{name}.nir", "--target", "loihi2", "--data", tmp_path / "d.npz", "--out",
               tmp_path / "b", "--readout", readout).status == 0
    seen = run("simulate", tmp_path / "b", "--data", tmp_path / "d.npz", "--engine", "lava", "--record", "l", "--json")
    assert seen.status == 0
    assert seen.json["lava_mismatches"] == {"l": 0, "output": 0}
    assert ("output" in seen.json["potentials"]) == (name != "q_thrhalf_maxpool")


def test_potentials_are_never_reported_as_spikes(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, faults = runner(capsys), shared / "faults" / "networks"
    model, spikes = faults / "o_li.nir", faults / "o_li.npz"
    seen = run("deploy", model, "--target", "loihi2", "--data", spikes, "--out", tmp_path / "b", "--json")
    (membrane,) = (layer for layer in seen.json["layers"] if layer["population"] == "r")
    for key in ("rate", "rate_before", "dead", "dead_before", "van_rossum", "mismatches"):
        assert membrane[key] is None
    network, given = nc.load(model), np.load(spikes)["spikes"]
    before = simulate(network, given, ["r"])["r"].astype(np.float64)
    assert np.isclose(membrane["membrane"]["rms_before"], np.sqrt(np.mean(before**2)))
    assert membrane["membrane"]["rms"] <= membrane["membrane"]["largest"] < 0.1 * np.abs(before).max()
    for verb in (("simulate", model), ("simulate", tmp_path / "b", "--engine", "emulator")):
        seen = run(*verb, "--data", spikes, "--json")
        assert "output" not in seen.json["firing_rates"]
        assert np.isclose(seen.json["potentials"]["output"]["rms"], np.sqrt(np.mean(before**2)), rtol=0.02)
        assert "spikes per neuron" not in run(*verb, "--data", spikes).out
    seen = run("compare", model, tmp_path / "b", "--data", spikes, "--json")
    (membrane,) = (p for p in seen.json["populations"] if p["population"] == "r")
    assert membrane["van_rossum"] is None
    assert membrane["rate"] == {"a": None, "b": None}
    assert membrane["membrane"]["rms"] < 0.02 * membrane["membrane"]["rms_before"]


def test_labels_beyond_the_outputs_are_a_sentence(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, faults = runner(capsys), shared / "faults" / "networks"
    model, spikes = faults / "o_lastlin.nir", np.load(faults / "o_lastlin.npz")["spikes"]
    run("deploy", model, "--target", "loihi2", "--data", faults / "o_lastlin.npz", "--out", tmp_path / "b")
    np.savez(tmp_path / "d.npz", spikes=spikes, labels=np.array([0, 1, 2, 3]))
    verbs = [("simulate", model), ("simulate", tmp_path / "b", "--engine", "emulator"),
             ("compare", model, tmp_path / "b"), ("deploy", model, "--target", "loihi2", "--out", tmp_path / "c"),
             ("compress", model, "--out", tmp_path / "c.nir", "--bits", 4)]
    for verb in verbs:
        seen = run(*verb, "--data", tmp_path / "d.npz")
        assert seen.status == 2
        assert "labels go from 0 to 3, and the network has 3 outputs" in seen.err


def test_what_can_not_be_read_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(Refused, match="there are no spikes to count"):
        tail(network("linear", rng), "spikes")
    with pytest.raises(Refused, match="no spikes to count"):
        tail(network("li", rng), "spikes")
    only = Network({"input": Input((4,)), "fc": Linear(np.ones((2, 4))), "output": Output()},
                   (("input", "fc"), ("fc", "output")))
    with pytest.raises(Refused, match="nothing of it would lie on the chip"):
        tail(only, "host")
    nodes = {"input": Input((4,)), "t": Threshold(np.ones(4)), "output": Output()}
    with pytest.raises(Refused, match="it has no membrane"):
        tail(Network(nodes, (("input", "t"), ("t", "output"))), "membrane")


def test_a_last_population_read_by_its_membrane_integrates_without_firing() -> None:
    rng = np.random.default_rng(1)
    made = tail(network("spikes", rng), "membrane").chip
    node = made.nodes["lif1"]
    assert isinstance(node, Neuron)
    assert not node.spiking
    spikes = data(rng, 2, 5)
    drive = simulate(made, spikes, ["conv1"])["conv1"].astype(np.float64)
    v = np.zeros_like(drive[:, 0])
    for t in range(5):
        v = v * (1 - 1 / 8) + drive[:, t]
        assert np.allclose(simulate(made, spikes)["output"][:, t], v, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["loihi1", "loihi2", "spinnaker2", "tianjic"]))
def test_a_maximum_of_spikes_is_exact_on_the_chip(seed: int, chip: str) -> None:
    """SumPool and a Threshold of a half: the chip's thresholds send the largest of the spikes before them."""
    rng = np.random.default_rng(seed)
    spiking = network("spikes", rng)
    pool = Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0)))
    nodes = {**spiking.nodes, "pool": pool, "max": Threshold(np.full((3, 2, 2), 0.5))}
    edges = (("input", "conv1"), ("conv1", "lif1"), ("lif1", "pool"), ("pool", "max"), ("max", "output"))
    made, profile, spikes = Network(nodes, edges, spiking.conventions), load_profile(chip), data(rng, 4, 12)
    assert check_fit(made, profile).fits
    integer = compress_for(made, profile, spikes, Recipe(method="rtn")).integer
    sent = emulate(integer, spikes, ["lif1", "max"]).spikes
    windows = sent["lif1"].reshape(4, 12, 3, 2, 2, 2, 2)
    assert np.array_equal(sent["max"], windows.max(axis=(4, 6)))


@pytest.mark.parametrize("reading", ["mean", "last", "max"])
def test_a_last_layer_is_compressed_by_the_error_of_what_is_read(reading: str) -> None:
    """The loss that compression names is that of the running sum of the outputs (of the outputs themselves where their
    last or largest is read), as a share of its square, in float64."""
    rng = np.random.default_rng(3)
    made, spikes = network("linear", rng, bias=False, reading=reading), data(rng, 12, 20)
    recipe = Recipe(method="sbc", bits=4, sparsity=0.5, layers=(LayerRecipe(match="conv1", keep=True),))
    found = compress_network(made, spikes, recipe)
    assert set(found.layers) == {"fc"}
    x = simulate(made, spikes, ["lif1"])["lif1"].reshape(12, 20, -1).astype(np.float64)
    x = x.cumsum(axis=1) if reading == "mean" else x
    before, after = (n.nodes["fc"].weight.astype(np.float64) for n in (made, found.network))
    lost, whole = (np.square(x @ w.T).sum() for w in (before - after, before))
    # H is damped by 1 % of the mean of its diagonal, in the loss and in the whole
    ridge = 0.01 * np.square(x).sum(axis=(0, 1)).mean()
    lost, whole = lost + ridge * np.square(before - after).sum(), whole + ridge * np.square(before).sum()
    assert np.isclose(found.layers["fc"].share_lost, lost / whole, rtol=1e-3)
    assert found.sparsity == pytest.approx(
        1 - sum(np.count_nonzero(found.network.nodes[n].weight) for n in ("conv1", "fc")) / (54 + 240))


def test_zeros_are_counted_over_all_weights(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, faults = runner(capsys), shared / "faults" / "networks"
    for name, weights in (("o_lastlin", 45), ("q_onlylin", 18), ("o_li", 45), ("q_out_two", 27)):
        seen = run("compress", faults / f"{name}.nir", "--data", faults / f"{name}.npz", "--sparsity", 0.5, "--bits", 4,
                   "--out", tmp_path / "c.nir", "--json")
        assert seen.status == 0, seen.err
        after = nc.load(tmp_path / "c.nir")
        stored = [node.weight for node in after.nodes.values() if isinstance(node, (Linear, Conv))]
        assert sum(w.size for w in stored) == sum(layer["weights"] for layer in seen.json["layers"]) == weights
        zeros = sum(int((w == 0).sum()) for w in stored) / weights
        assert seen.json["sparsity"] == pytest.approx(zeros)
        assert zeros >= 0.4


def test_what_learns_is_read_as_the_class_is() -> None:
    rng = np.random.default_rng(5)
    made = tail(network("linear", rng), "membrane").chip
    out = rng.normal(size=(7, 3, 5))
    for reading, want in (("mean", out.sum(0)), ("last", out[-1]), ("max", out.max(0))):
        there = replace(made, conventions=replace(made.conventions, reading=reading))
        assert np.allclose(read_over_time(there, torch.from_numpy(out)), want)
    assert np.allclose(read_over_time(network("spikes", rng), torch.from_numpy(out)), out.sum(0))


def test_a_flatten_that_counts_the_batch_is_named(shared: Path) -> None:
    with pytest.raises(Refused, match=r"'fl' flattens \(2, 4, 4\) from axis 1 on.*start_dim=0"):
        nc.load(shared / "faults" / "networks" / "p_flat1.nir")
