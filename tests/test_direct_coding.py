"""Networks that are given real values in every step: graded spikes, a host that computes the first layer, one file for
every engine, static pictures stored once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from cli_runner import runner
from direct_coded import STEPS, mnist, trained_mlp
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress import check, compare, deploy, load, simulate
from neurocompress.chip.on_chip.graded import Graded, graded_for
from neurocompress.data import SpikeData, load_spikes
from neurocompress.data.arrays import read_arrays, save_arrays
from neurocompress.errors import Refused
from neurocompress.network.encoder import joined, split
from neurocompress.network.nodes import Linear, Neuron
from neurocompress.simulation.float import simulate as simulate_float

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def mlp(shared, tmp_path_factory):
    """A trained network, and 300 pictures that it has not seen, from 0 to 1."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = trained_mlp(mnist(shared, "train", 6000), tmp_path_factory.mktemp("mlp") / "mlp.nir")
    torch.set_num_threads(threads)
    return path, mnist(shared, "test", 300)


@pytest.fixture(scope="session")
def bundles(mlp, tmp_path_factory):
    """The network on a chip with graded spikes, and on one without."""
    path, data = mlp
    folder = tmp_path_factory.mktemp("bundles")
    return {name: deploy(path, name, data=data, steps=STEPS, out=folder / name) for name in ("loihi2", "loihi1")}


def lif_layer(weight, bias, values, threshold=1.0, tau=2.0):
    """A layer of LIF neurons by its formula, float64, one sample and step at a time: spikes (samples, steps, n)."""
    spikes = np.zeros((*values.shape[:2], len(weight)))
    for sample, x in enumerate(values):
        v = np.zeros(len(weight))
        for t, now in enumerate(x):
            v = v + (weight.astype(np.float64) @ now + bias - v) / tau
            spikes[sample, t] = v > threshold
            v[v > threshold] = 0
    return spikes


# how values become messages


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_message_is_the_nearest_step_and_never_wider_than_stated(bits, signed, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 4, 5)) * 10 ** rng.uniform(-4, 4)
    values = values if signed else np.abs(values)
    step = graded_for(values.astype(np.float32), bits)
    sent = step.sent(values.astype(np.float32))
    ends = (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if values.min() < 0 else (0, 2**bits - 1)
    assert (step.low, step.high) == ends
    assert sent.dtype.kind in "iu"
    clipped = 0
    for whole, x in zip(sent.ravel().tolist(), values.astype(np.float32).ravel().tolist(), strict=True):
        nearest = round(x / step.scale)
        assert whole == min(max(nearest, ends[0]), ends[1])
        clipped += nearest != whole
    assert step.clipped(values.astype(np.float32)) == clipped
    dense = np.sqrt(np.mean((sent.astype(np.float64) * step.scale - values.astype(np.float32)) ** 2))
    assert step.rms_error(values.astype(np.float32)) == pytest.approx(dense, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_step_loses_no_more_than_any_other_that_was_tried(bits):
    values = np.random.default_rng(bits).standard_t(3, size=(40, 1, 60)).astype(np.float32)
    found = graded_for(values, bits)
    high = 2 ** (bits - 1) - 1
    losses = [np.mean((np.clip(np.rint(values / s), -high, high) * s - values) ** 2, dtype=np.float64)
              for s in np.linspace(0.3, 1, 71) * np.abs(values).max() / high]
    assert found.rms_error(values) ** 2 == pytest.approx(min(losses), rel=1e-5)


def test_pixels_of_eight_bits_are_sent_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 50)).astype(np.float32) / 255
    pixels[0, 0, 0] = 1.0
    step = graded_for(pixels, 8)
    np.testing.assert_array_equal(step.sent(pixels), np.rint(pixels * 255))
    assert step.rms_error(pixels) < 3e-8  # float32 holds no 1 / 255


def test_whole_numbers_that_fit_are_sent_as_they_are():
    values = np.arange(-5, 6).reshape(1, 1, 11).astype(np.float64)
    assert graded_for(values, 8) == Graded(1.0, -127, 127, 8)


def test_a_picture_that_time_repeats_is_rounded_once():
    pictures = np.broadcast_to(np.random.default_rng(0).random((4, 1, 3), dtype=np.float32), (4, 7, 3))
    step = graded_for(pictures, 4)
    sent = step.sent(pictures)
    assert sent.strides[1] == 0
    np.testing.assert_array_equal(sent, step.sent(pictures.copy()))
    assert step.clipped(pictures) == step.clipped(pictures.copy())


# on a chip with graded spikes


def test_graded_spikes_keep_the_accuracy_and_say_what_they_lose(mlp, bundles):
    path, data = mlp
    made = bundles["loihi2"]
    found = made.report.to_dict()
    assert found["input"]["mode"] == "graded"
    assert found["input"]["bits"] == 8
    assert (found["input"]["low"], found["input"]["high"]) == (0, 255)
    assert found["input"]["scale"] == pytest.approx(1 / 255, rel=1e-6)
    assert found["input"]["rms_error"] < 3e-8
    assert found["input"]["clipped"] == 0
    assert found["host"] is None
    assert any("graded spikes of 8 bits" in said and "no whole numbers" in said for said in found["assumptions"])
    # real values on the network of the file, and what is sent on the network of the chip, in float64 by hand
    network = load(path)
    x = np.broadcast_to(data.spikes, (300, STEPS, 784)).astype(np.float64)
    for values, engine in ((x, "float"), (np.rint(x * 255) / 255, "sent")):
        for layer in ("fc1", "fc2"):
            values = lif_layer(network.nodes[layer].weight, network.nodes[layer].bias, values)
        assert found["accuracy"][engine] == pytest.approx(
            100 * np.mean(values.sum(1).argmax(1) == data.labels), abs=0.34)
    assert found["accuracy"]["float"] > 80
    assert found["accuracy"]["emulated"] > found["accuracy"]["float"] - 1.5


def test_what_the_chip_stores_is_the_first_layer_for_whole_numbers(mlp, tmp_path):
    """Stored weight / threshold is the model's weight times the step of the input, over its threshold; the bundle's
    model.nir is in the units of the data again."""
    made = deploy(mlp[0], "loihi2", data=mlp[1].first(40), steps=STEPS, method="rtn", out=tmp_path / "bundle")
    integer = made.integer
    first = next(s for s in integer.synapses if s.source == integer.input)
    assert first.message_bits == integer.input_message_bits == 8
    step, weight = integer.graded_input.scale, load(mlp[0]).nodes["fc1"].weight.astype(np.float64)
    unit = 2.0**first.exponent / float(integer.population("lif1").vth)
    coarse = 2 * unit  # stored weights of mixed signs are even
    wanted = weight * 0.5 * step  # r dt / tau = 0.5
    assert np.abs(np.asarray(first.weight) * unit - wanted).max() <= coarse / 2 * 1.0001
    node = load(tmp_path / "bundle").nodes["fc1"]
    assert np.abs(node.weight - weight).max() <= coarse / 2 / (0.5 * step) * 1.0001
    facts = load(tmp_path / "bundle").metadata["fc1"]
    np.testing.assert_allclose(facts["quant_weight_int"] * facts["quant_weight_scale"].reshape(-1, 1), node.weight,
                               rtol=1e-6)


@pytest.mark.parametrize("target", ["loihi2", "loihi1"])
def test_every_engine_takes_the_same_real_valued_file(mlp, bundles, target, tmp_path):
    path, data = mlp
    data.save(tmp_path / "data.npz")
    report = bundles[target].report
    for engine, name in (("float", "compressed"), ("emulator", "emulated")):
        found = simulate(bundles[target].folder, tmp_path / "data.npz", engine=engine, steps=STEPS, record=["lif1"])
        assert found.accuracy == report.accuracy[name]
        assert found.arrays["lif1"].shape == (300, STEPS, 48)
    both = compare(path, bundles[target].folder, tmp_path / "data.npz", steps=STEPS)
    assert both.accuracy == (report.accuracy["float"], report.accuracy["emulated"])
    assert {c.population for c in both.populations} == {"lif1", "lif2"}


@pytest.mark.lava
@pytest.mark.parametrize("target", ["loihi2", "loihi1"])
def test_lava_takes_real_values_and_agrees_with_the_emulator(mlp, bundles, target, lava):
    found = simulate(bundles[target].folder, mlp[1].first(6), engine="lava", steps=STEPS, record=["lif1", "lif2"])
    assert found.mismatches == {"output": 0, "lif1": 0, "lif2": 0}
    assert found.arrays["lif1"].any()


def test_values_beyond_the_message_are_clipped_and_counted(mlp, bundles):
    bright = SpikeData(mlp[1].spikes[:20] * 2, None, "bright")
    found = simulate(bundles["loihi2"].folder, bright, engine="emulator", steps=STEPS)
    beyond = STEPS * int(np.count_nonzero(np.rint(bright.spikes.astype(np.float64) * 255) > 255))
    assert any(f"{beyond:,} of {20 * STEPS * 784:,} values lie beyond" in said for said in found.notes)
    both = compare(mlp[0], bundles["loihi2"].folder, bright, steps=STEPS)
    assert any(f"{beyond:,} of {20 * STEPS * 784:,} values lie beyond" in said for said in both.notes)
    clipped = SpikeData(np.minimum(bright.spikes, 1), None, "clipped")
    np.testing.assert_array_equal(
        found.arrays["output"],
        simulate(bundles["loihi2"].folder, clipped, engine="emulator", steps=STEPS).arrays["output"])


@pytest.mark.parametrize("changed", [{"scale": 0}, {"scale": "x"}, {"scale": None}, {"low": 5}, {"high": 1e9},
                                     {"bits": "8"}, {"more": 1}])
def test_a_step_that_was_tampered_with_is_refused(bundles, tmp_path, changed):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["loihi2"].folder, folder)
    arrays = read_arrays(folder / "integer.npz")
    header = json.loads(arrays["header"].tobytes())
    header["graded_input"] |= changed
    save_arrays(folder / "integer.npz", arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(Refused, match="Deploy the model again"):
        simulate(folder, SpikeData(np.zeros((1, 2, 784)), None, "x"), engine="emulator")


def test_host_layers_that_were_tampered_with_are_refused(bundles, tmp_path):
    for name, content in (("cut", b"\x89HDF"), ("other", (bundles["loihi2"].folder / "model.nir").read_bytes())):
        folder = tmp_path / name
        shutil.copytree(bundles["loihi1"].folder, folder)
        (folder / "host.nir").write_bytes(content)
        with pytest.raises(Refused, match="Deploy the model again"):
            simulate(folder, SpikeData(np.zeros((1, 2, 784)), None, "x"), engine="emulator")


# a host that computes the first layer


def test_the_host_computes_the_first_layer_exactly_and_is_counted_apart(mlp, bundles):
    path, data = mlp
    made = bundles["loihi1"]
    found = made.report.to_dict()
    assert found["input"]["mode"] == "host"
    assert found["host"]["input"] == {
        "layers": ["fc1", "lif1"], "neurons": 48, "parameters": 784 * 48 + 48, "macs": STEPS * 784 * 48,
        "neuron_updates": STEPS * 48}
    assert [layer["population"] for layer in found["layers"]] == ["lif2"]
    assert found["totals"]["parameters"] == 490
    assert any("has no graded spikes" in said for said in found["assumptions"])
    # the spikes that the chip gets, by the formula
    network = load(path)
    values = np.broadcast_to(data.spikes[:40], (40, STEPS, 784)).astype(np.float64)
    spikes = lif_layer(network.nodes["fc1"].weight, network.nodes["fc1"].bias, values)
    sent = simulate(made.folder, data.first(40), engine="emulator", steps=STEPS, record=["lif1"]).arrays["lif1"]
    assert np.count_nonzero(spikes != sent) <= 2  # float32 at the threshold
    whole = simulate_float(network, np.broadcast_to(data.spikes, (300, STEPS, 784)))["output"]
    assert found["accuracy"]["float"] == 100 * np.mean(whole.sum(1).argmax(1) == data.labels)
    assert found["accuracy"]["emulated"] > found["accuracy"]["float"] - 1.5


@pytest.mark.parametrize("target", ["spinnaker2", "brainscales2", "tianjic"])
def test_other_chips_without_public_graded_spikes_take_the_hosts_spikes(mlp, target):
    path, data = mlp
    made = deploy(path, target, data=data.first(80), steps=STEPS)
    assert made.report.to_dict()["input"]["mode"] == "host"
    assert made.report.accuracy["emulated"] > made.report.accuracy["float"] - 4


def test_a_network_is_cut_and_joined_without_loss(mlp):
    network = load(mlp[0])
    parts = split(network)
    assert (parts.encoder, parts.chip.input, parts.host.populations, parts.chip.populations) == (
        "lif1", "lif1", ("lif1",), ("lif2",))
    whole = joined(parts.host, parts.chip)
    assert set(whole.edges) == set(network.edges)
    assert whole.nodes.keys() == network.nodes.keys()
    x = np.random.default_rng(0).random((3, 5, 784), dtype=np.float32)
    first = simulate_float(parts.host, x)["output"]
    for a, b in ((simulate_float(whole, x), simulate_float(network, x)),
                 (simulate_float(parts.chip, first), simulate_float(network, x))):
        np.testing.assert_array_equal(a["output"], b["output"])


# which way, and why not


def test_spikes_stay_spikes(tmp_path):
    made = deploy("examples/digits/digits.nir", "loihi2", data="examples/digits/digits_calibration.npz")
    assert made.report.to_dict()["input"] == {
        "mode": "spikes", "why": "", "bits": None, "low": None, "high": None, "scale": None, "rms_error": None,
        "rms_share": None, "values": None, "clipped": None}
    assert made.report.to_dict()["host"] is None


@pytest.mark.parametrize(("target", "mode", "sentence"), [
    ("loihi2", "spikes", "no whole numbers, and Intel Loihi 2 receives whole numbers from 0.*--input graded"),
    ("loihi1", "spikes", "no whole numbers, and Intel Loihi 1 receives one spike.*--input host"),
    ("loihi1", "graded", "Intel Loihi 1 has no graded spikes.*--input host"),
    ("spinnaker2", "graded", "is not public.*--input host"),
])
def test_a_mode_that_chip_or_data_do_not_allow_is_refused_with_the_one_that_does(mlp, target, mode, sentence):
    with pytest.raises(Refused, match=sentence):
        deploy(mlp[0], target, data=mlp[1].first(8), steps=STEPS, input=mode)


def test_check_counts_what_the_chip_holds(mlp):
    every, rest = check(mlp[0], "loihi1"), check(mlp[0], "loihi1", input="host")
    assert [row.population for row in every.rows] == ["lif1", "lif2"]
    assert [row.population for row in rest.rows] == ["lif2"]
    assert rest.totals["parameters"] == 490
    assert any("37,680 parameters" in said for said in rest.notes)
    assert any("spikes of 8 bits" in said for said in check(mlp[0], "loihi2", input="graded").notes)
    with pytest.raises(Refused, match="no graded spikes"):
        check(mlp[0], "loihi1", input="graded")


# the command line


def test_the_command_line_takes_static_pictures_and_says_how_they_are_sent(mlp, tmp_path, capsys):
    run, path = runner(capsys), mlp[0]
    mlp[1].first(60).save(tmp_path / "x.npz")
    data = ("--data", tmp_path / "x.npz")
    for target, said in (("loihi2", "graded spikes of 8 bits"), ("loihi1", "On the host, before the chip")):
        seen = run("deploy", path, "--target", target, *data, "--steps", STEPS, "--out", tmp_path / target)
        assert seen.status == 0
        assert said in " ".join(seen.out.split())
        assert run("simulate", tmp_path / target, *data, "--steps", STEPS, "--engine", "emulator").status == 0
        assert run("compare", path, tmp_path / target, *data, "--steps", STEPS).status == 0
    assert run("simulate", path, *data, "--steps", STEPS, "--json").json["steps"] == STEPS
    assert run("compress", path, *data, "--steps", STEPS, "--bits", 8, "--out", tmp_path / "small.nir").status == 0
    refused = run("simulate", tmp_path / "loihi2", *data, "--steps", 0)
    assert (refused.status, "--steps is 0" in refused.err) == (2, True)
    seen = run("deploy", path, "--target", "loihi1", "--input", "graded", *data, "--out", tmp_path / "no")
    assert (seen.status, "--input host" in seen.err, (tmp_path / "no").exists()) == (2, True, False)
    seen = run("check", path, "--target", "loihi1", "--input", "host", "--json")
    assert (seen.status, [layer["population"] for layer in seen.json["layers"]]) == (0, ["lif2"])
    one = run("deploy", path, "--target", "loihi2", *data, "--out", tmp_path / "one", "--json").json
    assert "--steps T repeats static pictures" in one["input"]["why"]


def test_counts_on_a_chip_of_single_spikes_name_the_way_without_a_host(mlp):
    counts = SpikeData((mlp[1].spikes[:8] * 3).round(), None, "counts")
    found = deploy(mlp[0], "loihi1", data=counts, steps=STEPS, method="rtn").report.to_dict()
    assert found["input"]["mode"] == "host"
    assert "up to 3 spikes come per input and step (`neurocompress events --binary`" in found["input"]["why"]


def test_graded_spikes_of_one_bit_hold_no_values(mlp, tmp_path):
    (tmp_path / "bit.yaml").write_text(
        "extends: loihi2\nname: bit\ntitle: One bit\nneurons:\n"
        '  graded_spikes: {value: 1, unit: bits, source: "x", confidence: derived, kind: wall}\n')
    profile = tmp_path / "bit.yaml"
    with pytest.raises(Refused, match=r"have 1 bit, which holds no values.*--input host"):
        deploy(mlp[0], profile, data=mlp[1].first(8), steps=STEPS, input="graded")
    found = deploy(mlp[0], profile, data=mlp[1].first(8), steps=STEPS, method="rtn").report.to_dict()
    assert found["input"]["mode"] == "host"


# static pictures


def test_a_static_picture_is_repeated_without_a_copy(tmp_path):
    SpikeData(np.random.default_rng(0).random((3, 1, 5), dtype=np.float32), None, "x").save(tmp_path / "x.npz")
    found = load_spikes(tmp_path / "x.npz", (5,), analog=True, steps=9)
    assert found.spikes.shape == (3, 9, 5)
    assert found.spikes.strides[1] == 0
    assert found.chosen(np.array([2, 0])).spikes.strides[1] == 0


@pytest.mark.parametrize(("steps", "asked", "sentence"), [
    (4, 3, "holds 4 time steps, and --steps asks for 3"), (1, 0, "--steps is 0"), (4, 8, "only a single step")])
def test_steps_that_contradict_the_data_are_refused(steps, asked, sentence):
    with pytest.raises(Refused, match=sentence):
        SpikeData(np.zeros((2, steps, 3), np.float32), None, "x").repeated(asked)


# whole numbers in any type


@pytest.mark.lava
def test_whole_numbers_are_whole_numbers_whatever_type_holds_them(shared, lava, tmp_path):
    """faults/networks/o_stride: 0 and 1 as float32."""
    faults = shared / "faults" / "networks"
    with np.load(faults / "o_stride.npz", allow_pickle=False) as arrays:
        spikes = arrays["spikes"]
    made = deploy(faults / "o_stride.nir", "loihi2", data=faults / "o_stride.npz", out=tmp_path / "bundle")
    assert made.report.to_dict()["input"]["mode"] == "spikes"
    plain = SpikeData(spikes.astype(np.uint8), None, "plain")
    wanted = simulate(made.folder, plain, engine="emulator").arrays["output"]
    for kind in (np.float16, np.float32, np.float64, np.int64, np.bool_):
        np.savez(tmp_path / "x.npz", spikes=spikes.astype(kind))
        np.testing.assert_array_equal(
            simulate(made.folder, tmp_path / "x.npz", engine="emulator").arrays["output"], wanted)
    assert simulate(made.folder, faults / "o_stride.npz").arrays["output"].shape == wanted.shape
    for data in (faults / "o_stride.npz", SpikeData(spikes.astype(np.float64), None, "float64")):
        found = simulate(made.folder, data, engine="lava")
        np.testing.assert_array_equal(found.arrays["output"], wanted)
        assert found.mismatches == {"output": 0}


def test_the_report_file_holds_how_values_were_sent(bundles):
    for target, mode in (("loihi2", "graded"), ("loihi1", "host")):
        stored = json.loads((bundles[target].folder / "report.json").read_text())
        assert stored["input"]["mode"] == mode
        assert (bundles[target].folder / "host.nir").is_file() == (mode == "host")


def test_neurons_and_weights_of_the_split_are_those_of_the_file(mlp):
    parts, network = split(load(mlp[0])), load(mlp[0])
    assert isinstance(parts.host.nodes["lif1"], Neuron)
    assert isinstance(parts.chip.nodes["fc2"], Linear)
    assert parts.host.parameters + parts.chip.parameters == network.parameters
