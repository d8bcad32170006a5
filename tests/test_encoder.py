"""Networks cut behind their first population, inputs on a grid, and drawn direct-coded networks on a chip: against the
whole network, against dense formulas, against a literal interpreter of Loihi, and against Lava."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from drawn_networks import image, looped, rules
from hypothesis import given, settings
from hypothesis import strategies as st
from loihi_reference import simulate as reference

from neurocompress import check, compare, deploy, simulate
from neurocompress.data import SpikeData
from neurocompress.errors import Refused
from neurocompress.network.chip_form import chip_form
from neurocompress.network.conventions import Conventions
from neurocompress.network.encoder import joined, scaled, split, unscaled
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Output, Pool
from neurocompress.simulation.float import simulate as simulate_float
from neurocompress.simulation.stored import as_stored
from neurocompress.targets.lava import run

pytestmark = pytest.mark.usefixtures("one_thread")

RULE = Conventions(dt=1.0)


def lif(*shape: int, tau: float = 2.0, threshold: float = 1.0) -> Neuron:
    return Neuron(shape, r=np.ones(1), v_threshold=np.array([threshold]), tau_mem=np.array([tau]), v_leak=np.zeros(1),
                  v_reset=np.zeros(1))


def direct_coded(seed: int) -> Network:
    """A picture of (2, 7, 6) through one or two convolutions, with a pool or a branch that skips a layer."""
    rng = np.random.default_rng(seed)
    wide, kernel, stride = int(rng.integers(2, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
    first = Conv(rng.normal(size=(wide, 2, kernel, kernel)) * 0.8, rng.normal(size=wide) / 4, (stride,) * 2,
                 ((1, 1), (0, 0)), (1, 1))
    made = Network({"input": Input((2, 7, 6)), "conv1": first, "output": Output()},
                   (("input", "conv1"), ("conv1", "output")), RULE)
    shape = made.shapes["conv1"]
    nodes = {"input": Input((2, 7, 6)), "conv1": first, "lif1": lif(*shape, tau=float(rng.uniform(1.5, 5)))}
    names = list(nodes)
    if min(shape[1:]) >= 4 and rng.random() < 0.5:
        nodes["pool"] = Pool("average", (2, 2), (2, 2), ((0, 0), (0, 0)))
        names.append("pool")
        shape = (wide, shape[1] // 2, shape[2] // 2)
    nodes |= {"flat": Flatten(), "fc": Linear(rng.normal(size=(6, int(np.prod(shape)))) * 0.7), "lif2": lif(6),
              "fc2": Linear(rng.normal(size=(3, 6))), "lif3": lif(3), "output": Output((3,))}
    names = [*names, "flat", "fc", "lif2", "fc2", "lif3", "output"]
    edges = list(pairwise(names))
    if rng.random() < 0.4:
        nodes |= {"flat2": Flatten(), "skip": Linear(rng.normal(size=(3, int(np.prod(made.shapes["conv1"])))) * 0.3)}
        edges += [("lif1", "flat2"), ("flat2", "skip"), ("skip", "lif3")]
    return Network(nodes, tuple(edges), RULE)


def pictures(seed: int, shape: tuple[int, ...], samples: int = 6, steps: int = 5) -> SpikeData:
    """Real values of both signs, another in every step."""
    rng = np.random.default_rng(seed)
    return SpikeData(rng.normal(size=(samples, steps, *shape)).astype(np.float32), np.arange(samples) % 3, "drawn")


# the cut


@settings(max_examples=120, deadline=None)
@given(rules(), st.integers(0, 2**32 - 1), st.sampled_from(["LIF", "CubaLIF", "IF"]), st.booleans())
def test_host_and_chip_compute_what_the_whole_network_computes(rule, seed, kind, picture):
    """Loops, delays, biases, every convention: bit for bit."""
    rng = np.random.default_rng(seed)
    network = image(rng, kind, rule) if picture else looped(rng, kind, rule, "LIF")
    parts = split(network)
    assert parts.encoder == "a"
    x = rng.normal(size=(2, 9, *network.shapes["input"])).astype(np.float32)
    whole = simulate_float(network, x, [*parts.host.populations, *parts.chip.populations])
    first = simulate_float(parts.host, x, parts.host.populations)
    rest = simulate_float(parts.chip, first["output"], parts.chip.populations)
    for name in ("output", *parts.chip.populations):
        np.testing.assert_array_equal(rest[name], whole[name])
    np.testing.assert_array_equal(first["output"], whole["a"])
    again = joined(parts.host, parts.chip)
    assert set(again.edges) == set(network.edges)
    np.testing.assert_array_equal(simulate_float(again, x)["output"], whole["output"])


def branched(*edges: tuple[str, str]) -> Network:
    rng = np.random.default_rng(0)
    nodes = {"input": Input((4,)), "output": Output((4,))}
    for name in sorted({n for edge in edges for n in edge} - set(nodes)):
        nodes[name] = lif(4) if name[0] == "p" else Linear(rng.normal(size=(4, 4)))
    return Network(nodes, edges, RULE)


@pytest.mark.parametrize(("edges", "encoder", "host"), [
    # a skip that starts behind the first population stays on the chip
    ([("input", "a"), ("a", "p1"), ("p1", "b"), ("b", "p2"), ("p1", "p2"), ("p2", "output")], "p1", ("p1",)),
    # two branches of the input that join: the host computes both, and where they join
    ([("input", "a"), ("a", "p1"), ("p1", "b"), ("b", "p2"), ("input", "c"), ("c", "p2"), ("p2", "d"), ("d", "p3"),
      ("p3", "output")], "p2", ("p1", "p2")),
    # the rest feeds back into the first population: all of the loop is the host's
    ([("input", "a"), ("a", "p1"), ("p1", "b"), ("b", "p2"), ("p2", "c"), ("c", "p1"), ("p2", "d"), ("d", "p3"),
      ("p3", "output")], "p2", ("p1", "p2")),
])
def test_the_cut_lies_behind_the_first_population_that_everything_passes(edges, encoder, host):
    network = branched(*edges)
    parts = split(network)
    assert (parts.encoder, set(parts.host.populations)) == (encoder, set(host))
    x = np.random.default_rng(1).normal(size=(3, 8, 4)).astype(np.float32)
    first = simulate_float(parts.host, x)["output"]
    np.testing.assert_array_equal(simulate_float(parts.chip, first)["output"], simulate_float(network, x)["output"])


@pytest.mark.parametrize(("edges", "sentence"), [
    ([("input", "a"), ("a", "p1"), ("p1", "output")], "nothing is left for the chip"),
    ([("input", "a"), ("a", "p1"), ("p1", "b"), ("b", "p2"), ("input", "c"), ("c", "p2"), ("p2", "output")],
     "no population between the input and the last one"),
])
def test_what_can_not_be_cut_is_refused_with_a_way_out(edges, sentence):
    with pytest.raises(Refused, match=sentence):
        split(branched(*edges))


# inputs on a grid


@settings(max_examples=60, deadline=None)
@given(rules(), st.integers(0, 2**32 - 1), st.booleans(), st.floats(1e-3, 30))
def test_a_network_for_scaled_inputs_computes_the_same(rule, seed, picture, scale):
    rng = np.random.default_rng(seed)
    network = as_stored(image(rng, "LIF", rule) if picture else looped(rng, "LIF", rule, "LI"))
    made = scaled(network, scale)
    q = rng.integers(-9, 10, (2, 6, *network.shapes["input"]))
    wanted = simulate_float(network, q * scale, dtype=torch.float64)["output"]
    got = simulate_float(made, q.astype(np.float64), dtype=torch.float64)["output"]
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    plain, back = chip_form(network), unscaled(made, scale)
    assert plain.nodes.keys() == back.nodes.keys()
    for name, node in plain.nodes.items():
        if isinstance(node, (Linear, Conv)):
            np.testing.assert_allclose(back.nodes[name].weight, node.weight, rtol=1e-12)


# drawn networks on a chip


@pytest.mark.parametrize("seed", range(12))
def test_the_emulator_computes_drawn_direct_coded_networks_as_the_literal_interpreter_does(seed, tmp_path):
    network, data = direct_coded(seed), pictures(seed, (2, 7, 6))
    made = deploy(network, "loihi2", data=data, method="rtn", out=tmp_path / "b")
    step = made.integer.graded_input
    assert made.report.to_dict()["input"]["mode"] == "graded"
    q = np.clip(np.rint(data.spikes.astype(np.float64) / step.scale), step.low, step.high).astype(np.int64)
    wanted = reference(made.integer, q)
    names = [p.name for p in made.integer.populations]
    found = simulate(tmp_path / "b", data, engine="emulator", record=names)
    for name in names:
        np.testing.assert_array_equal(found.arrays[name], wanted[name].spikes)
    assert made.report.accuracy["emulated"] == found.accuracy
    # what is stored is the model's weights: the compressed network, in float, on what is sent
    floats = simulate(tmp_path / "b", data, record=names)
    assert floats.accuracy == made.report.accuracy["compressed"]
    differ = sum(int(np.count_nonzero(floats.arrays[n] != wanted[n].spikes)) for n in names)
    assert differ <= 0.03 * sum(wanted[n].spikes.size for n in names)  # decays are rounded, sums are shifted


@pytest.mark.lava
def test_lava_computes_drawn_direct_coded_networks_as_the_literal_interpreter_does(lava, tmp_path):
    spikes = 0
    for seed in range(4):
        network, data = direct_coded(seed), pictures(seed, (2, 7, 6), samples=3)
        made = deploy(network, "loihi2", data=data, method="rtn", out=tmp_path / str(seed))
        step = made.integer.graded_input
        q = np.clip(np.rint(data.spikes.astype(np.float64) / step.scale), step.low, step.high).astype(np.int64)
        wanted = reference(made.integer, q)
        names = [p.name for p in made.integer.populations]
        found = run(tmp_path / str(seed) / "lava", data.spikes, names, states=True)
        for name in names:
            np.testing.assert_array_equal(found.spikes[name], wanted[name].spikes)
            np.testing.assert_array_equal(found.u[name], wanted[name].u)
            np.testing.assert_array_equal(found.v[name], wanted[name].v)
            spikes += int(wanted[name].spikes.sum())
    assert spikes > 100


@pytest.mark.parametrize("target", ["loihi1", "tianjic"])
def test_the_host_sends_exactly_the_spikes_of_its_formula(target, tmp_path):
    """The first layer as a literal computation: a sum for each output, a membrane for each neuron, float64."""
    network = direct_coded(3)
    data = pictures(3, (2, 7, 6), samples=3)
    deploy(network, target, data=data, method="rtn", out=tmp_path / "b")
    conv, tau = network.nodes["conv1"], float(network.nodes["lif1"].tau_mem[0])
    shape = network.shapes["lif1"]
    wanted = np.zeros((3, 5, *shape))
    (top, bottom), (left, right) = conv.padding
    wide = np.pad(data.spikes.astype(np.float64), ((0, 0), (0, 0), (0, 0), (top, bottom), (left, right)))
    for sample in range(3):
        v = np.zeros(shape)
        for t in range(5):
            for c, i, j in np.ndindex(*shape):
                at = i * conv.stride[0], j * conv.stride[1]
                window = wide[sample, t, :, at[0]:at[0] + conv.weight.shape[2], at[1]:at[1] + conv.weight.shape[3]]
                v[c, i, j] += ((window * conv.weight[c]).sum() + conv.bias[c] - v[c, i, j]) / tau
            wanted[sample, t] = v > 1
            v[v > 1] = 0
    found = simulate(tmp_path / "b", data, engine="emulator", record=["lif1"])
    assert found.arrays["lif1"].sum() > 20
    assert np.count_nonzero(found.arrays["lif1"] != wanted) <= 1  # float32 at the threshold


def test_several_spikes_in_a_step_are_sent_by_the_host_where_the_chip_has_messages_for_them(tmp_path):
    """A first population that fires several times in a step: counts as graded spikes, or one spike a step."""
    many = replace(direct_coded(5), conventions=replace(RULE, spikes_per_step="many", reset="subtract"))
    data = SpikeData(3 * pictures(5, (2, 7, 6)).spikes, None, "bright")
    for target, most in (("loihi2", None), ("loihi1", 1)):
        made = deploy(many, target, data=data, method="rtn", input="host", out=tmp_path / target)
        sent = simulate(tmp_path / target, data, engine="emulator", record=["lif1"]).arrays["lif1"]
        if most is None:
            np.testing.assert_array_equal(sent, simulate_float(many, data.spikes, ["lif1"])["lif1"])
            assert sent.max() > 1
            assert made.integer.input_message_bits == int(sent.max()).bit_length()
        else:
            assert sent.max() == most


# one data set in every form


@pytest.mark.parametrize(("target", "mode"), [("loihi2", "graded"), ("loihi1", "host")])
def test_batches_static_pictures_and_arrays_give_one_report(target, mode, tmp_path):
    network = direct_coded(1)
    still = SpikeData(np.random.default_rng(1).normal(size=(40, 1, 2, 7, 6)).astype(np.float32), np.arange(40) % 3, "x")
    spread = SpikeData(np.repeat(still.spikes, 4, axis=1), still.labels, "x")
    batches = [(still.spikes[k:k + 10], still.labels[k:k + 10]) for k in range(0, 40, 10)]
    found = [deploy(network, target, data=data, steps=steps, method="rtn").report.to_dict()
             for data, steps in ((still, 4), (spread, None), (spread, 4), (batches, 4))]
    assert found[0]["input"]["mode"] == mode
    for other in found[1:]:
        for key in ("accuracy", "agreement_with_float", "layers", "totals", "host"):
            assert other[key] == found[0][key]
        for key, value in found[0]["input"].items():
            assert key == "why" or other["input"][key] == (
                pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


def test_a_stream_that_turns_real_after_spikes_calibrated_is_refused():
    network = direct_coded(1)
    ones = (np.random.default_rng(0).random((256, 2, 2, 7, 6)) < 0.5).astype(np.float32)
    batches = [ones[:128], ones[128:]] * 4 + [ones[:2] * 0.5]
    with pytest.raises(Refused, match="real values, and the samples that calibrate hold spikes"):
        deploy(network, "loihi2", data=batches, method="rtn")


@pytest.mark.parametrize("target", ["loihi2", "loihi1", "spinnaker2"])
@pytest.mark.parametrize("end", ["linear", "membrane", "linear alone"])
def test_networks_that_end_in_no_spikes_are_direct_coded_as_well(end, target, tmp_path):
    """Both ends of a network may be the host's; every way to run the bundle gives the report's accuracy."""
    rng = np.random.default_rng(7)
    nodes = {"input": Input((1, 6, 6)), "conv": Conv(rng.normal(size=(3, 1, 3, 3)), None, (1, 1), ((1, 1),) * 2,
                                                          (1, 1)),
             "lif1": lif(3, 6, 6), "flat": Flatten(), "fc": Linear(rng.normal(size=(12, 108)) * 0.6), "lif2": lif(12),
             "last": Linear(rng.normal(size=(3, 12)))}
    if end == "membrane":
        nodes["li"] = Neuron((3,), r=np.ones(1), tau_mem=np.array([4.0]), v_leak=np.zeros(1))
    if end == "linear alone":  # one population: the chip adds up what the host's spikes bring
        del nodes["fc"], nodes["lif2"]
        nodes["last"] = Linear(rng.normal(size=(3, 108)))
    names = [*nodes, "output"]
    network = Network(nodes | {"output": Output()}, tuple(pairwise(names)), RULE)
    data = pictures(7, (1, 6, 6), samples=24)
    made = deploy(network, target, data=data, method="rtn", out=tmp_path / "b")
    accuracy = made.report.accuracy
    assert made.report.to_dict()["input"]["mode"] == ("graded" if target == "loihi2" else "host")
    assert simulate(tmp_path / "b", data, engine="emulator").accuracy == accuracy["emulated"]
    assert simulate(tmp_path / "b", data).accuracy == accuracy["compressed"]
    assert compare(network, tmp_path / "b", data).accuracy == (accuracy["float"], accuracy["emulated"])
    assert accuracy["float"] == simulate(network, data).accuracy


@pytest.mark.parametrize(("size", "mode", "bits"), [
    (1.0, "graded", (8,)), (2.0**-10, "graded", (4, 5, 6, 7)), (2.0**-16, "host", (None,))])
def test_weights_small_beside_the_threshold_take_fewer_bits_of_the_input_and_then_the_host(size, mode, bits):
    """A bias keeps the neurons firing; the input only modulates. What is sent is as wide as the chip's grid allows."""
    rng = np.random.default_rng(0)
    nodes = {"input": Input((30,)), "fc": Linear(rng.normal(size=(20, 30)) * size, rng.uniform(1.5, 3, 20)),
             "lif1": lif(20), "fc2": Linear(rng.normal(size=(3, 20))), "lif2": lif(3), "output": Output((3,))}
    network = Network(nodes, tuple(pairwise(nodes)), RULE)
    data = pictures(1, (30,), samples=16)
    found = deploy(network, "loihi2", data=data, method="rtn").report.to_dict()
    assert found["input"]["mode"] == mode
    assert found["input"]["bits"] in bits
    if mode == "graded":
        return
    assert "not even 4 bits" in found["input"]["why"]
    with pytest.raises(Refused, match=r"not even 4 bits.*--input host"):
        deploy(network, "loihi2", data=data, method="rtn", input="graded")


@pytest.mark.parametrize("target", ["loihi1", "loihi2", "spinnaker2", "tianjic", "brainscales2"])
def test_check_and_deploy_say_the_same_where_the_host_computes_the_first_layer(target):
    for seed in (0, 4, 9):
        network = direct_coded(seed)
        found = check(network, target, input="host")
        made = deploy(network, target, data=pictures(seed, (2, 7, 6), samples=4), method="rtn", input="host")
        assert found.fits
        assert made.passed
        assert [row.population for row in found.rows] == [row.population for row in made.fit.rows]
        assert found.totals["neurons"] == made.fit.totals["neurons"]
