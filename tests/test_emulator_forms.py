"""The emulators of SpiNNaker 2 (real states) and Tianjic (plain integers) against recorded traces, literal
interpreters of their rules, and the float simulator on networks of whole numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import lava_networks
import numpy as np
import pytest
from drawn_networks import image, looped, rules
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from loihi_reference import simulate as interpret_integers
from real_reference import simulate as interpret_reals

from neurocompress.chip.on_chip import integer_file
from neurocompress.chip.on_chip.build import build
from neurocompress.chip.on_chip.real_network import RealNetwork
from neurocompress.chip.on_chip.units import Units
from neurocompress.chip.profile.features import features
from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.recipe import Recipe
from neurocompress.deployment.compress_for_chip import compress_for, weight_format
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network.chip_form import chip_form
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.drive import gains, step_of
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate

pytestmark = pytest.mark.usefixtures("one_thread")

SPINNAKER, TIANJIC = load_profile("spinnaker2"), load_profile("tianjic")


def as_py_spinnaker2(network: Network) -> RealNetwork:
    """The network as py-spinnaker2 stores it: weights times 127 / (largest into the population), fractions cut off."""
    network = chip_form(network)
    network = replace(network, conventions=replace(network.conventions, weights="float"))
    integers, units = {}, {}
    for population in network.populations:
        into = [c for c in connections(network) if c.target == population]
        largest = max(float(np.abs(c.weight).max()) for c in into)
        for c in into:
            integers[c.name] = np.trunc(network.nodes[c.name].weight.astype(np.float64) * (127 / largest)).astype(int)
        node = network.nodes[population]
        gain = np.unique(gains(node, step_of(node, network.conventions), network.conventions))
        assert len(gain) == 1
        step = largest / 127 * gain[0]
        units[population] = Units(np.asarray(1 / step), {c.name: 0 for c in into}, {c.name: step for c in into})
    made = build(network, integers, units, weight_format(SPINNAKER, 8), SPINNAKER.arithmetic, features(SPINNAKER))
    assert isinstance(made, RealNetwork)
    return made


@pytest.mark.shared
def test_the_recorded_spikes_of_spinnaker2_are_reproduced(shared):
    """Recorded with py-spinnaker2 for the NIR paper: int8 weights, one empty step first, biases on the membrane."""
    folder = shared / "models/nir_paper/braille"
    made = as_py_spinnaker2(read(folder / "braille_noDelay_bias_zero.nir", preset="spinnaker2"))
    spikes = np.load(folder / "braille_ds_test_0.npy")[None]
    found = emulate(made, spikes, ["lif1.lif"]).spikes
    recorded = np.load(folder / "s2_activity_noDelay_bias_zero.npy")
    assert np.count_nonzero(found["lif1.lif"][0] != recorded) == 0
    assert recorded.sum() > 100
    assert found[made.output].sum(axis=1).argmax() == 1  # the sample's class


def deployed(network: Network, profile=SPINNAKER, bits: int | None = None):
    made = compress_for(network, profile, None, Recipe(method="rtn"), bits=bits)
    return made, made.integer_network()


@settings(deadline=None, max_examples=120)
@given(rules(), st.integers(0, 2**32 - 1), st.sampled_from(["IF", "LIF", "CubaLIF"]), st.booleans())
def test_drawn_networks_match_the_literal_interpreter_in_float32(rule, seed, kind, images):
    rng = np.random.default_rng(seed)
    rule = replace(rule, spikes_per_step="one")
    network = image(rng, kind, rule) if images else looped(rng, kind, rule)
    if images:  # a threshold that is not positive is crossed by silence: no chip has one
        t = network.nodes["t"]
        network = network.with_nodes({"t": replace(t, threshold=np.abs(t.threshold) + 0.1)})
    _, made = deployed(network)
    spikes = (rng.random((2, 6, *network.shapes["input"])) < 0.5).astype(np.uint8)
    found = emulate(made, spikes, [p.name for p in made.populations]).spikes
    for name, expected in interpret_reals(made, spikes).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(24, 8, 0, 0), (16, 6, 2, 3), (12, 12, 0, 0)]))
@example(seed=37439, widths=(12, 12, 0, 0))  # a potential at its threshold, with a two-phase reset
def test_drawn_integer_networks_of_any_width_match_the_literal_interpreter(seed, widths):
    """Tianjic's form: current and membrane are clipped, not wrapped; other widths and shifts than Loihi's."""
    rng = np.random.default_rng(seed)
    network = lava_networks.random_network(rng)
    state, decay, activation, threshold = widths
    rule = replace(TIANJIC.arithmetic, state_bits=state, decay_bits=decay, activation_shift=activation,
                   threshold_shift=threshold)
    unity = 2**decay
    network = replace(network, arithmetic=rule, populations=tuple(
        replace(p, du=np.asarray(p.du) % unity, dv=np.asarray(p.dv) % unity) for p in network.populations))
    spikes = lava_networks.random_spikes(rng, network, 2, 8)
    found = emulate(network, spikes, [p.name for p in network.populations], states=True)
    for name, trace in interpret_integers(network, spikes).items():
        np.testing.assert_array_equal(found.spikes[name], trace.spikes, err_msg=name)
        np.testing.assert_array_equal(found.u[name], trace.u, err_msg=name)
        np.testing.assert_array_equal(found.v[name], trace.v, err_msg=name)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Integers of 8 bits, the end of the grid among them: the grid holds them as they are."""
    w = rng.integers(-100, 120, size=shape).astype(float)
    w.flat[0] = 127.0
    return w


def integrate(rng: np.random.Generator, n: int) -> Neuron:
    return Neuron((n,), r=np.ones(n), v_threshold=np.full(n, float(rng.integers(100, 500))), v_reset=np.zeros(n))


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["spinnaker2", "tianjic"]), st.sampled_from(["zero", "subtract"]),
       st.sampled_from([">", ">="]), st.booleans(), st.booleans())
def test_networks_of_whole_numbers_compute_as_in_floating_point(seed, target, reset, fire, feedback, skip):
    rng = np.random.default_rng(seed)
    nodes = {"input": Input((6,)), "fc1": Linear(whole(rng, 5, 6), rng.integers(-60, 60, 5).astype(float)),
             "a": integrate(rng, 5), "fc2": Linear(whole(rng, 4, 5)), "b": integrate(rng, 4), "output": Output((4,))}
    edges = list(pairwise(["input", "fc1", "a", "fc2", "b", "output"]))
    if feedback:
        nodes["rec"] = Linear(whole(rng, 4, 4))
        edges += [("b", "rec"), ("rec", "b")]
    if skip:
        nodes["skip"] = Linear(whole(rng, 4, 6))
        edges += [("input", "skip"), ("skip", "b")]
    network = Network(nodes, tuple(edges), Conventions(dt=1.0, reset=reset, fire=fire))
    _, made = deployed(network, load_profile(target))
    spikes = (rng.random((3, 25, 6)) < 0.4).astype(np.uint8)
    found = emulate(made, spikes, ["a", "b"])
    assume(not any(o.u_wrapped or o.v_clipped for o in found.overflow.values()))
    expected = simulate(network, spikes, ["a", "b"])
    for name in ("a", "b"):
        np.testing.assert_array_equal(found.spikes[name], expected[name], err_msg=name)


@pytest.mark.parametrize(("target", "bits", "kind", "most"), [
    ("spinnaker2", 8, "LIF", 0.0), ("spinnaker2", 8, "CubaLIF", 0.0), ("spinnaker2-16bit", 16, "CubaLIF", 0.0),
    ("tianjic", 8, "LIF", 0.15)])
def test_the_chip_computes_what_its_compressed_weights_mean(target, bits, kind, most):
    """The compressed network in floating point is the reference; Tianjic's leak is rounded to 1/256 and truncated."""
    wrong = total = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network = looped(rng, kind, Conventions(dt=1.0, bias="membrane"), "LIF")
        made, chip = deployed(network, load_profile(target), bits)
        spikes = (rng.random((2, 30, 4)) < 0.4).astype(np.uint8)
        found, expected = emulate(chip, spikes, ["a", "b"]).spikes, simulate(made.network, spikes, ["a", "b"])
        wrong += sum(int(np.sum(found[n] != expected[n])) for n in ("a", "b"))
        total += sum(int(expected[n].sum()) for n in ("a", "b"))
    assert total > 200
    assert wrong / total <= most


def test_readouts_are_in_the_models_units():
    rng = np.random.default_rng(2)
    network = looped(rng, "LIF", Conventions(dt=1.0), "LI")
    made, chip = deployed(network, bits=8)
    spikes = (rng.random((2, 30, 4)) < 0.4).astype(np.uint8)
    found, expected = emulate(chip, spikes).spikes[chip.output], simulate(made.network, spikes)["output"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("target", ["spinnaker2", "tianjic", "brainscales2"])
def test_a_stored_network_runs_as_before(tmp_path, target):
    rng = np.random.default_rng(1)
    network = looped(rng, "CubaLIF", Conventions(dt=1e-3, bias="membrane"), "LIF")
    scale = {"a": 1e-3, "b": 1e-3}
    network = network.with_nodes({n: replace(
        node, tau_mem=node.tau_mem * scale[n], tau_syn=None if node.tau_syn is None else node.tau_syn * scale[n])
        for n in scale for node in [network.nodes[n]]} | {
            n: replace(network.nodes[n], delay=np.zeros(5)) for n in ("wait", "slow")})
    _, chip = deployed(network, load_profile(target))
    integer_file.save(chip, tmp_path / "integer.npz")
    again = integer_file.load(tmp_path / "integer.npz")
    assert type(again) is type(chip)
    assert again.arithmetic == chip.arithmetic
    spikes = (rng.random((2, 30, 4)) < 0.4).astype(np.uint8)
    for name in ("a", "b"):
        np.testing.assert_array_equal(emulate(again, spikes, ["a"]).spikes[name],
                                      emulate(chip, spikes, ["a"]).spikes[name])


def test_a_potential_can_not_be_sent_on():
    rng = np.random.default_rng(0)
    calm = Neuron((4,), r=np.ones(4), tau_mem=np.full(4, 5.0))
    nodes = {"input": Input((6,)), "fc1": Linear(whole(rng, 4, 6)), "calm": calm, "fc2": Linear(whole(rng, 3, 4)),
             "b": integrate(rng, 3), "output": Output((3,))}
    network = Network(nodes, tuple(pairwise(["input", "fc1", "calm", "fc2", "b", "output"])), Conventions(dt=1.0))
    with pytest.raises(Refused, match="NC108 calm: LI neurons that drive 'b'"):
        deployed(network)
