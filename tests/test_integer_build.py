"""From float to integers: networks whose numbers are integers already must compute the same in both worlds.

Weights are even integers up to 254 and thresholds are integers, so the chip's grid holds them exactly and float64
computes without rounding: the float simulator is then an independent reference for latencies, delays, biases, resets.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.recipe import Recipe
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Output, Pool, Scale, Threshold
from neurocompress.network.shapes import output_shape
from neurocompress.simulation.float import simulate
from neurocompress.verbs.deploy import message_bits

PROFILE = load_profile("loihi2")


def even(rng, *shape):
    w = 2.0 * rng.integers(-100, 128, size=shape)
    w.flat[0] = 254.0  # the end of the grid
    return w


def integrate(rng, shape, **more):
    theta = np.full(shape, float(rng.integers(200, 900)))
    return Neuron(shape, r=np.ones(shape), v_threshold=theta, v_reset=np.zeros(shape), **more)


def both(network, spikes):
    """(float, emulated) spikes of every population."""
    import torch

    made = compress_for(network, PROFILE, None, Recipe(method="rtn"))
    names = made.network.populations
    found = emulate(made.integer_network(message_bits(spikes)), spikes, names)
    expected = simulate(network, spikes, names, dtype=torch.float64)
    if any(o.u_wrapped or o.v_clipped for o in found.overflow.values()):
        assume(False)  # runaway activity: a chip must clip
    return {n: (expected[n], found.spikes[n]) for n in names}


rules = st.builds(
    Conventions, dt=st.just(1.0), reset=st.sampled_from(["zero", "subtract"]), fire=st.sampled_from([">", ">="]),
    spikes_per_step=st.sampled_from(["one", "many"]), v_floor=st.booleans(), two_phase_reset=st.booleans(),
    reset_delay=st.booleans(), start=st.sampled_from(["zero", "reset"]))


def coherent(rule: Conventions) -> Conventions:
    return replace(rule, two_phase_reset=rule.two_phase_reset and rule.spikes_per_step == "one")


@settings(deadline=None, max_examples=150)
@given(rules, st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.booleans())
def test_dense_recurrent_and_residual_networks_of_if_neurons_are_exact(rule, seed, feedback, skip, biased):
    rng = np.random.default_rng(seed)

    def linear(n_out, n_in):
        return Linear(even(rng, n_out, n_in), rng.integers(-60, 60, n_out).astype(float) if biased else None)

    nodes = {"input": Input((6,)), "fc1": linear(5, 6), "a": integrate(rng, (5,)), "fc2": linear(4, 5),
             "b": integrate(rng, (4,)), "fc3": linear(3, 4), "c": integrate(rng, (3,)), "output": Output((3,))}
    edges = [("input", "fc1"), ("fc1", "a"), ("a", "fc2"), ("fc2", "b"), ("b", "fc3"), ("fc3", "c"), ("c", "output")]
    if feedback:
        nodes["rec"] = linear(4, 4)
        edges += [("b", "rec"), ("rec", "b")]
    if skip:  # two connections shorter than the way beside it
        nodes["skip"] = linear(3, 6)
        edges += [("input", "skip"), ("skip", "c")]
    network = Network(nodes, tuple(edges), coherent(rule))
    spikes = (rng.random((3, 25, 6)) < 0.4).astype(np.uint8)
    for name, (expected, found) in both(network, spikes).items():
        np.testing.assert_array_equal(found, expected, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(rules, st.integers(0, 2**32 - 1), st.sampled_from(["sum", "none"]), st.booleans())
def test_convolutional_networks_with_pooling_are_exact(rule, seed, pool, grouped):
    rng = np.random.default_rng(seed)
    conv1 = Conv(even(rng, 4, 2, 3, 2), rng.integers(-20, 20, 4).astype(float), (1, 2), ((1, 1), (0, 1)), (1, 1))
    nodes = {"input": Input((2, 6, 7)), "conv1": conv1}
    shape = output_shape(conv1, (2, 6, 7))
    nodes["a"] = integrate(rng, shape)
    chain = ["input", "conv1", "a"]
    if pool == "sum":
        nodes["pool"] = Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0)))
        shape = output_shape(nodes["pool"], shape)
        chain.append("pool")
    nodes["conv2"] = Conv(even(rng, 4, 2 if grouped else 4, 2, 2), None, (1, 1), ((1, 1), (1, 1)), (1, 1),
                          2 if grouped else 1)
    shape = output_shape(nodes["conv2"], shape)
    nodes |= {"b": integrate(rng, shape), "flat": Flatten(), "fc": Linear(even(rng, 3, int(np.prod(shape)))),
              "c": integrate(rng, (3,)), "output": Output((3,))}
    chain += ["conv2", "b", "flat", "fc", "c", "output"]
    network = Network(nodes, tuple(itertools.pairwise(chain)), coherent(rule))
    spikes = rng.integers(0, 3, size=(2, 15, 2, 6, 7)).astype(np.uint8)
    for name, (expected, found) in both(network, spikes).items():
        np.testing.assert_array_equal(found, expected, err_msg=name)


@settings(deadline=None, max_examples=80)
@given(rules, st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_leaky_and_current_based_neurons_differ_only_by_rounding(rule, seed, cuba, biased, late_bias, leaking):
    """Decays of 1 - k/4096 are exact on the chip; products lose less than one unit per step. Gains are divided out."""
    rng = np.random.default_rng(seed)
    rule = replace(coherent(rule), gain="unit", spikes_per_step="one", recurrent_bias_at_start=not late_bias)
    one = np.ones(4)
    more = {"tau_mem": one * float(rng.choice([4, 8, 16])), "v_leak": one * (20.0 if leaking else 0.0)}
    if cuba:
        more |= {"tau_syn": one * float(rng.choice([2, 4])), "w_in": one}
    bias = rng.integers(-30, 40, 4).astype(float) if biased else None
    nodes = {"input": Input((6,)), "fc": Linear(even(rng, 4, 6), bias), "n": integrate(rng, (4,), **more),
             "rec": Linear(even(rng, 4, 4), bias), "output": Output((4,))}
    edges = (("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "output"))
    spikes = (rng.random((2, 6, 6)) < 0.5).astype(np.uint8)
    (expected, found), = both(Network(nodes, edges, rule), spikes).values()
    # a potential within rounding of its threshold may flip, rarely; what follows it then differs too
    assert np.mean(expected != found) <= 0.05


def test_rounding_flips_few_spikes_on_average():
    rng = np.random.default_rng(0)
    wrong = total = 0
    for _ in range(30):
        one = np.ones(8)
        neuron = integrate(rng, (8,), tau_mem=one * 8, v_leak=0 * one, tau_syn=one * 4, w_in=one)
        nodes = {"input": Input((6,)), "fc": Linear(even(rng, 8, 6), rng.normal(0, 20, 8)), "n": neuron,
                 "output": Output((8,))}
        rule = Conventions(dt=1.0, gain="unit")
        network = Network(nodes, (("input", "fc"), ("fc", "n"), ("n", "output")), rule)
        (expected, found), = both(network, (rng.random((2, 50, 6)) < 0.5).astype(np.uint8)).values()
        wrong, total = wrong + int((expected != found).sum()), total + int(expected.sum())
    assert total > 1000
    assert wrong / total < 0.005


def test_delays_thresholds_resets_and_readouts_have_their_integer_form():
    rng = np.random.default_rng(3)
    one = np.ones(3)
    lif = Neuron((3,), r=one, v_threshold=one * 500, v_reset=one * 100, tau_mem=one * 8, v_leak=one * 40)
    nodes = {"input": Input((3,)), "wait": Delay(np.array([0.0, 1.0, 3.0])), "fc": Linear(even(rng, 3, 3)), "n": lif,
             "out": Linear(even(rng, 2, 3)),
             "li": Neuron((2,), r=np.ones(2), tau_mem=np.ones(2) * 4, v_leak=np.zeros(2)), "output": Output((2,))}
    edges = (("input", "wait"), ("wait", "fc"), ("fc", "n"), ("n", "out"), ("out", "li"), ("li", "output"))
    network = Network(nodes, edges, Conventions(dt=1.0, gain="unit"))
    spikes = (rng.random((2, 40, 3)) < 0.5).astype(np.uint8)
    found = both(network, spikes)
    assert np.mean(found["n"][0] != found["n"][1]) < 0.02
    potentials, read = (x.reshape(-1) for x in found["li"])
    assert np.corrcoef(potentials, read)[0, 1] > 0.999  # a readout sends its potential, in the chip's units

    steps = Network({"input": Input((3,)), "t": Threshold(np.array([0.5, 1.5, 0.5])), "double": Scale(np.array(2.0)),
                     "output": Output((3,))},
                    (("input", "double"), ("double", "t"), ("t", "output")), Conventions(dt=1.0))
    (expected, emulated), = both(steps, np.ones((1, 4, 3), np.uint8)).values()
    np.testing.assert_array_equal(emulated, expected)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("cuba", [False, True])
def test_neurons_that_all_differ_compute_what_their_compressed_weights_mean(reset, cuba):
    """Thresholds, resistances, time constants, leaks and resets of their own; the grid's values in floating point."""
    rng = np.random.default_rng(7)

    def neurons(n):
        def draw(low, high):
            return rng.uniform(low, high, n)

        more = {"tau_syn": draw(2, 6), "w_in": draw(0.5, 2)} if cuba else {}
        return Neuron((n,), r=draw(0.5, 2), v_threshold=draw(0.5, 2), v_reset=draw(-0.2, 0.2), tau_mem=draw(3, 12),
                      v_leak=draw(-0.2, 0.3), **more)

    wrong = total = 0
    for _ in range(5):
        rows = np.exp(rng.normal(0, 0.5, (30, 1)))
        nodes = {"input": Input((20,)), "fc": Linear(rng.normal(0, 1, (30, 20)) * rows, rng.normal(0, 0.1, 30)),
                 "a": neurons(30), "rec": Linear(rng.normal(0, 0.2, (30, 30))),
                 "fc2": Linear(rng.normal(0, 1, (10, 30))),
                 "b": neurons(10), "output": Output((10,))}
        edges = (("input", "fc"), ("fc", "a"), ("a", "rec"), ("rec", "a"), ("a", "fc2"), ("fc2", "b"), ("b", "output"))
        spikes = (rng.random((2, 30, 20)) < 0.3).astype(np.uint8)
        made = compress_for(Network(nodes, edges, Conventions(dt=1.0, reset=reset)), PROFILE, spikes)
        found = emulate(made.integer, spikes, ["a", "b"]).spikes
        expected = simulate(made.network, spikes, ["a", "b"])
        for name in ("a", "b"):
            wrong, total = wrong + int(np.sum(found[name] != expected[name])), total + int(expected[name].sum())
    assert total > 300
    assert wrong / total < 0.05


def test_a_loop_of_two_connections_is_reported():
    rng = np.random.default_rng(4)
    nodes = {"input": Input((3,)), "fc": Linear(even(rng, 3, 3)), "a": integrate(rng, (3,)),
             "fc2": Linear(even(rng, 3, 3)), "b": integrate(rng, (3,)), "back": Linear(even(rng, 3, 3)),
             "output": Output((3,))}
    edges = (("input", "fc"), ("fc", "a"), ("a", "fc2"), ("fc2", "b"), ("b", "back"), ("back", "a"), ("b", "output"))
    made = compress_for(Network(nodes, edges, Conventions(dt=1.0)), PROFILE, None, Recipe(method="rtn"))
    assert any("takes 2 steps on the chip" in note for note in made.integer.notes)


def test_what_has_no_integer_form_is_refused_with_its_layer():
    rng = np.random.default_rng(5)
    nodes = {"input": Input((3,)), "fc": Linear(even(rng, 3, 3)), "a": integrate(rng, (3,)),
             "fc2": Linear(even(rng, 2, 3)), "output": Output((2,))}
    edges = (("input", "fc"), ("fc", "a"), ("a", "fc2"), ("fc2", "output"))
    with pytest.raises(Refused, match="does not end in a population"):
        _ = compress_for(Network(nodes, edges), PROFILE, None, Recipe(method="rtn")).integer
    huge = Linear(even(rng, 3, 3), np.full(3, 1e9))
    nodes = {"input": Input((3,)), "fc": huge, "a": integrate(rng, (3,)), "output": Output((3,))}
    with pytest.raises(Refused, match="NC110 a: constant input"):
        _ = compress_for(Network(nodes, (("input", "fc"), ("fc", "a"), ("a", "output"))), PROFILE, None,
                         Recipe(method="rtn")).integer
