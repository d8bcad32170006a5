"""Hand-made integer networks, one for each thing that a Lava program has to get right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.network.kernel import Kernel

#: name -> (network, spikes, what must have been used)
CASES: dict[str, tuple[IntegerNetwork, np.ndarray, set[str]]] = {}


def case(*used):
    """Registers what a function returns, (network, spikes), under its name. used: processes it must lead to."""
    def register(function):
        CASES[function.__name__.replace("_", " ")] = (*function(np.random.default_rng(1)), set(used))
        return function
    return register


def neurons(name, shape, latency=1, vth=100, du=4095, dv=0, bias_mant=0, **more):
    arrays = {"du": np.array(du), "dv": np.array(dv), "vth": np.array(vth), "bias_mant": np.array(bias_mant)}
    return Population(name, (shape,) if isinstance(shape, int) else shape, **arrays, latency=latency, **more)


def connect(name, source, target, weight, **more):
    """source, target: populations, or the shape of the input "in"."""
    source_name, source_shape = ("in", source) if isinstance(source, tuple) else (source.name, source.shape)
    weight = weight if sparse.issparse(weight) else np.asarray(weight)
    return Synapses(**{
        "name": name, "source": source_name, "target": target.name, "weight": weight, "kernel": None, "exponent": 0,
        "bits": 8, "sign": "mixed", "source_shape": source_shape, "target_shape": target.shape} | more)


def network(input_shape, populations, synapses, **more):
    return IntegerNetwork("in", input_shape, populations[-1].name, tuple(populations), tuple(synapses), Arithmetic(),
                          **more)


def even(rng, *shape):
    return 2 * rng.integers(-60, 90, shape)


def spikes(rng, *shape):
    return (rng.random(shape) < 0.4).astype(np.uint8)


@case("LIFReset", "Dense")
def leaky_layers_with_bias(rng):
    a = neurons("a", 6, du=900, dv=300, bias_mant=rng.integers(-50, 90, 6), bias_exp=3)
    b = neurons("b", 4, 2, du=2000, dv=50, vth=150)
    return network((5,), (a, b), (connect("w", (5,), a, even(rng, 6, 5)), connect("x", a, b, even(rng, 4, 6)))), spikes(
        rng, 4, 25, 5)


@case("LIFReset", "Sparse")
def a_neuron_that_its_bias_drives_restarts_with_each_sample(rng):
    a = neurons("a", 3, dv=10, bias_mant=[900, 1500, 4095], bias_exp=2)
    nothing = sparse.csr_array((3, 2), dtype=np.int64)
    return network((2,), (a,), (connect("w", (2,), a, nothing),)), spikes(rng, 3, 20, 2)


@case("LIFReset")
def a_population_that_nothing_feeds(rng):
    return network((2,), (neurons("a", 3, bias_mant=2000),), ()), spikes(rng, 2, 9, 2)


def one_to_one(rng, **more):
    """Eight neurons of one kind, each with an input of its own, negative inputs among them."""
    a = neurons("a", 8, **more)
    w = np.diag([50, 100, 200, 254, -60, 100, 100, 34])
    return network((8,), (a,), (connect("w", (8,), a, w, message_bits=4),), input_message_bits=4), rng.integers(
        -3, 9, (2, 30, 8))


@case("Neurons")
def exactly_on_the_threshold_does_not_fire_above(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400)


@case("Neurons")
def exactly_on_the_threshold_fires_at(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, fire=">=")


@case("Neurons")
def many_spikes_above(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, spikes_per_step="many")


@case("Neurons")
def many_spikes_at(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, spikes_per_step="many", fire=">=")


@case("Neurons")
def many_spikes_reset_to_zero(rng):
    return one_to_one(rng, spikes_per_step="many", dv=100)


@case("Neurons")
def a_floor_under_v(rng):
    return one_to_one(rng, reset="subtract", reset_by=9000, v_floor=np.array(-6400), dv=200)


@case("Neurons")
def two_phase_reset(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, two_phase=True, dv=400)


@case("Neurons")
def a_reset_one_step_late(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, late_reset=True, dv=400)


@case("Neurons")
def a_reset_to_zero_one_step_late(rng):
    return one_to_one(rng, late_reset=True, dv=400, du=2000)


@case("Neurons")
def many_spikes_reset_one_step_late_over_a_floor(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, late_reset=True, spikes_per_step="many", fire=">=",
                      v_floor=np.array(-6400))


@case("Neurons")
def two_phase_many_at(rng):
    return one_to_one(rng, reset="subtract", reset_by=6400, two_phase=True, fire=">=", spikes_per_step="many")


@case("Neurons")
def every_neuron_with_parameters_of_its_own(rng):
    return one_to_one(rng, vth=rng.integers(50, 200, 8), du=rng.integers(0, 4096, 8), dv=rng.integers(0, 900, 8),
                      bias_mant=rng.integers(-4096, 4096, 8), u_init=rng.integers(-9000, 9000, 8),
                      v_init=rng.integers(-9000, 9000, 8))


@case("Neurons")
def a_readout_sends_its_potential(rng):
    return one_to_one(rng, spiking=False, du=500, dv=100)


@case("LIFReset")
def u_wraps_and_v_is_clipped(rng):
    a = neurons("a", 4, du=100, dv=20, vth=131071)
    return network((4,), (a,), (connect("w", (4,), a, np.diag([254, -256, 200, -200]), exponent=7),)), np.ones(
        (2, 40, 4), np.uint8)


@case("Neurons")
def inputs_beyond_32_bits_after_their_shift(rng):
    a = neurons("a", 3, vth=131071)
    return network((3,), (a,), (connect("w", (3,), a, np.diag([254, -256, 2]), exponent=7, message_bits=15),),
                   input_message_bits=15), rng.integers(-32767, 32768, (2, 12, 3))


def convolution(rng, input_shape, weight_shape, stride, padding, dilation=None, groups=1, exponent=0, **more):
    axes = len(weight_shape) - 2
    kernel = Kernel.of(input_shape, weight_shape, stride, padding, dilation or (1,) * axes, groups)
    a = neurons("a", kernel.output_shape, du=700, dv=100, vth=200)
    b = neurons("b", 3, 2)
    w = even(rng, *weight_shape)
    return network(input_shape, (a, b), (
        connect("conv", input_shape, a, w, kernel=kernel, exponent=exponent, **more),
        connect("dense", a, b, even(rng, 3, int(np.prod(a.shape)))))), spikes(rng, 2, 12, *input_shape)


@case("Conv", "Dense")
def convolution_then_dense_reads_rows_in_order(rng):
    return convolution(rng, (2, 6, 5), (3, 2, 3, 2), (1, 1), ((0, 0), (0, 0)))


@case("Conv")
def convolution_with_everything_different_on_both_axes(rng):
    return convolution(rng, (2, 9, 7), (4, 2, 3, 2), (2, 1), ((2, 2), (1, 1)), (1, 2), exponent=2)


@case("Conv")
def depthwise_convolution(rng):
    return convolution(rng, (3, 5, 6), (6, 1, 2, 3), (1, 2), ((0, 0), (1, 1)), groups=3)


@case("Conv")
def grouped_convolution(rng):
    return convolution(rng, (4, 5, 6), (6, 2, 2, 3), (1, 2), ((1, 1), (0, 0)), groups=2)


@case("Conv")
def convolution_along_one_axis(rng):
    return convolution(rng, (3, 11), (4, 3, 4), (2,), ((1, 1),), (2,))


@case("Sparse")
def convolution_with_uneven_padding(rng):
    return convolution(rng, (2, 5, 6), (3, 2, 3, 3), (1, 2), ((1, 0), (0, 2)))


@case("Sparse")
def convolution_shifted_right(rng):
    return convolution(rng, (2, 5, 6), (3, 2, 3, 3), (1, 1), ((1, 1), (0, 0)), exponent=-2)


@case("DelaySparse")
def convolution_that_arrives_late(rng):
    return convolution(rng, (2, 5, 6), (3, 2, 3, 3), (1, 1), ((1, 1), (0, 0)), extra_delay=3)


@case("Conv", "LIFReset")
def convolutions_after_dense_and_after_each_other(rng):
    a, b, c = neurons("a", (2, 4, 3)), neurons("b", (3, 4, 2), 2), neurons("c", (2, 3, 1), 3)
    k1 = Kernel.of(a.shape, (3, 2, 1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    k2 = Kernel.of(b.shape, (2, 3, 2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    return network((5,), (a, b, c), (
        connect("w", (5,), a, even(rng, 24, 5)), connect("k1", a, b, even(rng, 3, 2, 1, 2), kernel=k1),
        connect("k2", b, c, even(rng, 2, 3, 2, 2), kernel=k2))), spikes(rng, 2, 15, 5)


@case("Neurons", "Dense")
def a_recurrent_layer_forgets_between_samples(rng):
    a = neurons("a", 5, dv=30, vth=60, bias_mant=100)
    return network((4,), (a,), (
        connect("w", (4,), a, even(rng, 5, 4)), connect("back", a, a, np.full((5, 5), 90), feedback=True))), spikes(
        rng, 4, 12, 4)


@case("Neurons", "DelayDense")
def feedback_from_a_later_layer_with_a_delay(rng):
    a, b = neurons("a", 4, dv=30, reset="subtract", reset_by=6400), neurons("b", 3, 2, bias_mant=500, bias_exp=2)
    return network((4,), (a, b), (
        connect("w", (4,), a, even(rng, 4, 4)), connect("x", a, b, even(rng, 3, 4)),
        connect("back", b, a, even(rng, 4, 3), feedback=True, extra_delay=2))), spikes(rng, 3, 20, 4)


@case("LIFReset", "DelayDense", "Dense")
def branches_of_unequal_depth_meet_in_the_same_step(rng):
    a, b, c = neurons("a", 4, vth=30), neurons("b", 4, 2, vth=30), neurons("c", 4, 3, vth=120)
    return network((4,), (a, b, c), (
        connect("w1", (4,), a, even(rng, 4, 4)), connect("w2", a, b, even(rng, 4, 4)),
        connect("w3", b, c, even(rng, 4, 4)), connect("short", a, c, even(rng, 4, 4), extra_delay=1),
        connect("shorter", (4,), c, even(rng, 4, 4), extra_delay=2))), spikes(rng, 3, 15, 4)


@case("DelaySparse", "DelayDense", "Neurons")
def delays_up_to_63_steps_with_a_sample_behind(rng):
    a, b = neurons("a", 6, bias_mant=300), neurons("b", 5, 2)
    thin = sparse.csr_array(np.where(rng.random((5, 6)) < 0.2, even(rng, 5, 6), 0))
    return network((4,), (a, b), (
        connect("w", (4,), a, even(rng, 6, 4), extra_delay=np.array([0, 63, 5, 20])),
        connect("x", a, b, thin, extra_delay=np.array([0, 63, 1, 2, 40, 7]), exponent=1),
        connect("y", a, b, even(rng, 5, 6), extra_delay=3, exponent=-2))), spikes(rng, 2, 70, 4)


@case("Sparse", "DelaySparse")
def connections_without_a_single_weight(rng):
    a, b = neurons("a", 3, bias_mant=3000), neurons("b", 2, 2, bias_mant=3000)
    none = sparse.csr_array((2, 3), dtype=np.int64)
    return network((3,), (a, b), (
        connect("w", (3,), a, np.zeros((3, 3), np.int64)), connect("x", a, b, none),
        connect("y", a, b, none, extra_delay=2))), spikes(rng, 2, 8, 3)


@case("Sparse", "Dense", "Neurons")
def graded_spikes_through_every_matrix(rng):
    many = dict(reset="subtract", reset_by=30 << 6, vth=30, fire=">=", spikes_per_step="many")
    a, b, c = neurons("a", 4, **many), neurons("b", 20, 2, **many), neurons("c", 3, 3)
    thin = np.where(rng.random((20, 4)) < 0.1, even(rng, 20, 4), 0)
    return network((4,), (a, b, c), (
        connect("w", (4,), a, even(rng, 4, 4), message_bits=6), connect("x", a, b, thin, message_bits=16),
        connect("y", b, c, even(rng, 3, 20), message_bits=16),
        connect("z", a, c, even(rng, 3, 4), message_bits=16, extra_delay=1)),
        input_message_bits=6), rng.integers(-10, 60, (3, 15, 4))


@case("Conv", "Neurons")
def graded_spikes_through_a_convolution(rng):
    found, _ = convolution(rng, (2, 6, 5), (3, 2, 3, 2), (1, 1), ((1, 1), (0, 0)), message_bits=5)
    many = replace(found.populations[0], reset="subtract", reset_by=12800, spikes_per_step="many")
    found = replace(found, populations=(many, found.populations[1]),
                    synapses=(found.synapses[0], replace(found.synapses[1], message_bits=16)))
    return replace(found, input_message_bits=5), rng.integers(0, 31, (2, 9, 2, 6, 5))


@case("Dense")
def weights_of_one_sign_and_few_bits(rng):
    a = neurons("a", 6)
    return network((5,), (a,), (
        connect("up", (5,), a, rng.integers(0, 256, (6, 5)), sign="excitatory"),
        connect("down", (5,), a, -rng.integers(0, 128, (6, 5)) * 2, sign="inhibitory", bits=7),
        connect("coarse", (5,), a, rng.integers(-8, 8, (6, 5)) * 32, bits=4, exponent=-1))), spikes(rng, 2, 20, 5)


@case("Dense")
def samples_of_a_single_step(rng):
    a, b = neurons("a", 4, vth=1), neurons("b", 3, 2, vth=0)
    return network((5,), (a, b), (connect("w", (5,), a, even(rng, 4, 5)), connect("x", a, b, even(rng, 3, 4)))), spikes(
        rng, 6, 1, 5)


@case("Dense")
def names_that_python_can_not_use(rng):
    a = neurons('import os; "', 3, vth=20)
    b = neurons("np", 3, 2, vth=20)
    c = neurons("3 'x' {y} \\ ü", 2, 3, vth=20)
    return network((4,), (a, b, c), (
        connect("import os", (4,), a, even(rng, 3, 4)), connect("class", a, b, even(rng, 3, 3)),
        connect("class", b, c, even(rng, 2, 3)), connect('"""', b, c, even(rng, 2, 3)))), spikes(rng, 2, 9, 4)
