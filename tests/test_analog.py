"""Analog chips: the model in the chip's time, what its circuits can not do, and virtual chips with mismatch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from real_reference import simulate as interpret

from neurocompress.chip.on_chip.analog_circuits import breaches, on_circuits
from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.recipe import Recipe
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.emulation.mismatch import monte_carlo, synapse_count, virtual_chip
from neurocompress.errors import Refused
from neurocompress.fit.check import check_fit
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate
from neurocompress.verification.verify import virtual_chips

pytestmark = pytest.mark.usefixtures("one_thread")

PROFILE = load_profile("brainscales2")
CHIP = PROFILE.arithmetic
NO_SPREAD = {f"spread_{name}": 0.0 for name in ("weight", "synapse", "threshold", "tau_mem", "tau_syn")}


def neuron(n: int, **changed: float | None) -> Neuron:
    """In the chip's range: 10 ms and 5 ms are 10 us and 5 us on the chip."""
    values = {"r": 1.0, "v_threshold": 0.5, "v_reset": 0.0, "tau_mem": 10e-3, "v_leak": 0.0, "tau_syn": 5e-3,
              "w_in": 1.0} | changed
    return Neuron((n,), **{k: np.full(n, v) for k, v in values.items() if v is not None})


def network(rng: np.random.Generator, rule: Conventions | None = None, **changed: float | None) -> Network:
    nodes = {"input": Input((12,)), "fc": Linear(rng.normal(0, 4, (20, 12))), "a": neuron(20, **changed),
             "fc2": Linear(rng.normal(0, 4, (5, 20))), "b": neuron(5, **changed), "output": Output((5,))}
    return Network(nodes, tuple(pairwise(nodes)), rule or Conventions(dt=1e-3, decay="exponential"))


def spikes(rng: np.random.Generator, samples: int = 4, steps: int = 40) -> np.ndarray:
    return (rng.random((samples, steps, 12)) < 0.3).astype(np.uint8)


def deployed(net: Network, **options):
    made = compress_for(net, PROFILE, None, Recipe(method="rtn"), **options)
    return made, made.integer_network()


def test_weights_are_six_bits_and_a_sign():
    made, chip = deployed(network(np.random.default_rng(0)))
    for s in chip.synapses:
        assert np.abs(s.weight).max() == 63
        assert (s.bits, s.sign) == (6, "beside")
    steps = {round(float(x), 12) for layer in made.layers.values() for x in np.unique(layer.step)}
    assert len(steps) == 2  # one for all weights into a population


def test_the_designed_chip_is_the_compressed_network():
    """Without mismatch the emulator computes what the weights on the grid mean in floating point."""
    rng = np.random.default_rng(1)
    made, chip = deployed(network(rng))
    x = spikes(rng)
    found, expected = emulate(chip, x, ["a", "b"]).spikes, simulate(made.network, x, ["a", "b"])
    assert expected["b"].sum() > 20
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], expected[name])


NO_SYNAPSE = {"tau_syn": None, "w_in": None}
OUT_OF_RANGE = [  # of a, of b (at the other end, so that no speed fits both), what is said of a
    ({"tau_mem": 0.1}, {"tau_mem": 0.5e-3}, "membrane time constant is 100 us on the chip, the longest there is 60 us"),
    ({"tau_mem": 0.3e-3}, {"tau_mem": 60e-3}, "membrane time constant is 0.3 us on the chip, the shortest"),
    ({"tau_syn": 0.05}, {"tau_syn": 0.3e-3}, "synaptic time constant is 50 us on the chip, the longest there is 30 us"),
    (NO_SYNAPSE, {}, "synaptic time constant is 0 us on the chip, the shortest there is 0.3 us"),
    (NO_SYNAPSE | {"tau_mem": None, "v_leak": None}, {}, "membrane time constant never decays on the chip")]


@pytest.mark.parametrize(("a", "b", "sentence"), OUT_OF_RANGE)
def test_time_constants_outside_of_the_range_are_named_and_set_to_its_end(a, b, sentence):
    net = network(np.random.default_rng(2))
    net = net.with_nodes({"a": neuron(20, **a), "b": neuron(5, **b)})
    found = [str(b) for b in breaches(net, CHIP)]
    assert any(sentence in text for text in found), found
    assert {text[1] for text in found} == {"a"}
    made, notes = on_circuits(net, CHIP)
    assert set(found) <= set(notes)
    assert not list(breaches(made, CHIP))
    assert made.nodes["b"].tau_mem[0] == pytest.approx(net.nodes["b"].tau_mem[0])


@pytest.mark.parametrize("factor", [1.0, 0.05, 10.0])
def test_a_model_too_fast_or_slow_for_the_circuits_runs_at_another_speed(factor):
    """tau_mem 10 ms, tau_syn 5 ms, times factor. 0.05: tau_mem 0.5 us, tau_syn 0.25 us, 1.2 times too short; tau_mem
    100 us is 1.67 times too long."""
    rng = np.random.default_rng(3)
    rule = Conventions(dt=1e-3 * factor, decay="exponential")
    net = network(rng, rule, tau_mem=10e-3 * factor, tau_syn=5e-3 * factor)
    made, notes = on_circuits(net, CHIP)
    text = " ".join(notes)
    if factor == 1.0:
        assert not notes
    else:
        speed = {0.05: 1000 * 0.25 / 0.3, 10.0: 1000 * 100 / 60}[factor]
        assert f"it runs {speed:.4g} times faster than the model's own time, not 1000 times" in text
        assert "which it gets" not in text
    x = spikes(rng)
    np.testing.assert_array_equal(simulate(made, x)["output"], simulate(net, x)["output"])


def test_the_rule_on_time_constants_names_every_population_that_breaks_it():
    net = network(np.random.default_rng(4))
    a, b = neuron(20, tau_mem=0.1), neuron(5, tau_mem=0.2e-3)
    found = [v for v in check_fit(net.with_nodes({"a": a, "b": b}), PROFILE).violations if v.code == "NC107"]
    assert {(v.layer, v.resource, v.unit) for v in found} == {
        ("a", "membrane time constant", "us"), ("b", "membrane decay rate", "per us")}
    assert all("from 0.5 to 60 ms" in v.fix for v in found)
    assert not [v for v in check_fit(net, PROFILE).violations if v.code == "NC107"]


@pytest.mark.parametrize("gain", ["nir", "unit"])
@pytest.mark.parametrize("cuba", [True, False])
@pytest.mark.parametrize("decays", [True, False])
def test_what_is_in_range_stays_as_it_is(gain, cuba, decays):
    """Same decays and same gains in other words: the spikes are the same, but for a synapse that had to be added."""
    rng = np.random.default_rng(3)
    rule = Conventions(dt=1e-3, decay="exponential", gain=gain, input_decays=decays)
    net = network(rng, rule, v_leak=0.1, r=1.5) if cuba else network(rng, rule, tau_syn=None, w_in=None)
    on_chip, _ = on_circuits(net, CHIP)
    x = spikes(rng)
    found, expected = (simulate(n, x, ["a", "b"]) for n in (on_chip, net))
    assert expected["b"].sum() > 20
    if cuba:
        np.testing.assert_array_equal(found["a"], expected["a"])
        np.testing.assert_array_equal(found["b"], expected["b"])
    else:
        assert abs(found["a"].sum() - expected["a"].sum()) < 0.1 * expected["a"].sum()


def test_resets_floors_and_biases_that_the_chip_lacks_are_named():
    rng = np.random.default_rng(4)
    rule = Conventions(dt=1e-3, reset="subtract", v_floor=True, spikes_per_step="many")
    net = network(rng, rule)
    net = net.with_nodes({"fc": replace(net.nodes["fc"], bias=np.full(20, 0.1))})
    made, _ = deployed(net)
    text = " ".join(made.notes)
    for part in ("at most one spike per neuron and step", "no reset of kind 'subtract'", "a floor of the membrane",
                 "biases shift the leak potential"):
        assert part in text, part
    assert made.network.conventions.reset == "zero"


def test_delays_are_refused_and_a_model_without_seconds_is_too():
    rng = np.random.default_rng(5)
    net = network(rng)
    waiting = Network(net.nodes | {"wait": Delay(np.full(20, 2e-3))},
                      tuple(pairwise(["input", "fc", "a", "wait", "fc2", "b", "output"])), net.conventions)
    with pytest.raises(Refused, match=r"NC104 fc2: delay: 2 steps needed, 0 available"):
        deployed(waiting)
    with pytest.raises(Refused, match="seconds per step"):
        deployed(network(rng, Conventions(decay="exponential")))


def test_branches_of_different_depth_need_no_delay_on_circuits():
    rng = np.random.default_rng(6)
    net = network(rng)
    net = Network(net.nodes | {"skip": Linear(rng.normal(0, 2, (5, 12)))},
                  (*net.edges, ("input", "skip"), ("skip", "b")), net.conventions)
    made, chip = deployed(net)
    x = spikes(rng)
    np.testing.assert_array_equal(emulate(chip, x, ["b"]).spikes["b"], simulate(made.network, x, ["b"])["b"])


def test_mismatch_has_the_mean_and_spread_of_the_profile():
    """Factors against the designed chip, over many neurons and synapses."""
    rng = np.random.default_rng(7)
    big = Network({"input": Input((300,)), "fc": Linear(rng.normal(0, 4, (400, 300))), "a": neuron(400),
                   "output": Output((400,))}, tuple(pairwise(["input", "fc", "a", "output"])),
                  Conventions(dt=1e-3, decay="exponential"))
    _, chip = deployed(big)
    made = virtual_chip(chip, np.random.default_rng(0))
    (designed,), (drawn,) = chip.populations, made.populations
    dt = 1e-3
    figures = {
        "threshold": drawn.step.v_threshold / designed.step.v_threshold,
        "tau_mem": (-dt / np.log(drawn.step.beta)) / 10e-3, "tau_syn": (-dt / np.log(drawn.step.alpha)) / 5e-3}
    for name, factors in figures.items():
        spread = getattr(CHIP, f"spread_{name}")
        assert factors.mean() == pytest.approx(1, abs=4 * spread / 20)
        assert factors.std() == pytest.approx(spread, rel=0.15)
    before, after = (s.matrix().toarray() for s in (chip.synapses[0], made.synapses[0]))
    ratio = np.divide(after, before, out=np.full(after.shape, np.nan), where=before != 0)
    rows = np.stack([np.nanmean(np.where(before > 0, ratio, np.nan), axis=1),
                     np.nanmean(np.where(before < 0, ratio, np.nan), axis=1)])
    assert rows.std() == pytest.approx(CHIP.spread_synapse, rel=0.15)
    assert abs(np.corrcoef(rows)[0, 1]) < 0.2  # two circuits: one for each sign
    within = np.nanstd(np.where(before > 0, ratio, np.nan) / rows[0][:, None])
    assert within == pytest.approx(CHIP.spread_weight, rel=0.1)
    assert not np.any(after[before == 0])


def test_the_leak_pulls_to_the_same_potential_on_every_chip():
    _, chip = deployed(network(np.random.default_rng(8), v_leak=0.3))
    made = virtual_chip(chip, np.random.default_rng(1))
    for designed, drawn in zip(chip.populations, made.populations, strict=True):
        rest = [p.step.leak / (1 - p.step.beta) for p in (designed, drawn)]
        np.testing.assert_allclose(*np.broadcast_arrays(*rest))


def test_without_spread_every_virtual_chip_is_the_designed_one():
    rng = np.random.default_rng(9)
    _, chip = deployed(network(rng))
    x = spikes(rng)
    same = replace(chip, arithmetic=replace(CHIP, **NO_SPREAD))
    scores = monte_carlo(same, x, chips=3)
    expected = emulate(chip, x).spikes[chip.output].sum(axis=1)
    np.testing.assert_array_equal(scores, np.broadcast_to(expected, scores.shape))


@pytest.mark.parametrize("seed", range(4))
def test_a_virtual_chip_runs_as_a_literal_interpreter_says(seed):
    """Real weights are summed in float32 there and in float64 here: a potential at its threshold may flip, rarely."""
    rng = np.random.default_rng(seed)
    net = network(rng, v_leak=0.1)
    net = Network(net.nodes | {"rec": Linear(rng.normal(0, 1, (20, 20)))}, (*net.edges, ("a", "rec"), ("rec", "a")),
                  net.conventions)
    _, chip = deployed(net)
    made, x = virtual_chip(chip, np.random.default_rng(seed)), spikes(rng, samples=2, steps=25)
    found = emulate(made, x, ["a", "b"]).spikes
    wrong = fired = 0
    for name, expected in interpret(made, x).items():
        wrong, fired = wrong + np.count_nonzero(found[name] != expected), fired + np.count_nonzero(expected)
    assert fired > 100
    assert wrong <= 0.005 * fired


def test_a_chip_is_fixed_by_its_seed_and_differs_from_the_others():
    rng = np.random.default_rng(10)
    _, chip = deployed(network(rng))
    x = spikes(rng, samples=6)
    scores = monte_carlo(chip, x, chips=4, seed=3)
    np.testing.assert_array_equal(monte_carlo(chip, x, chips=2, seed=3), scores[:2])  # chip k is chip k of any run
    np.testing.assert_array_equal(monte_carlo(chip, x[3:], chips=4, seed=3), scores[:, 3:])  # fixed through all samples
    assert len({s.tobytes() for s in scores}) == 4


def test_every_place_of_a_convolution_is_a_synapse_of_its_own():
    rng = np.random.default_rng(11)
    conv = Conv(rng.normal(0, 4, (2, 1, 3, 3)), None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    nodes = {"input": Input((1, 6, 6)), "conv": conv,
             "a": Neuron((2, 6, 6), **{k: v[:1].reshape(1, 1, 1) for k, v in vars(neuron(1)).items() if k != "shape"}),
             "flat": Flatten(), "fc": Linear(rng.normal(0, 2, (3, 72))), "b": neuron(3), "output": Output((3,))}
    _, chip = deployed(Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1e-3, decay="exponential")))
    assert synapse_count(chip) == 2 * 9 * 36 + 3 * 72
    made = virtual_chip(chip, np.random.default_rng(0))
    drawn = made.synapses[0].matrix().tocsr()
    centre = [drawn[k, k] for k in range(7, 29) if drawn[k, k]]
    assert len(set(centre)) == len(centre) > 10
    same = replace(chip, arithmetic=replace(CHIP, **NO_SPREAD))
    x = (rng.random((2, 20, 1, 6, 6)) < 0.3).astype(np.uint8)
    np.testing.assert_allclose(monte_carlo(same, x, chips=1)[0], emulate(chip, x).spikes[chip.output].sum(axis=1))


def test_virtual_chips_see_samples_that_did_not_calibrate():
    rng = np.random.default_rng(12)
    _, chip = deployed(network(rng))
    x = spikes(rng, samples=5)
    found = virtual_chips(chip, x, (0, 2), 0, lambda stage, done, total: None)
    assert found is not None
    assert found.samples.tolist() == [1, 3, 4]
    assert found.classes.shape == (20, 3)
