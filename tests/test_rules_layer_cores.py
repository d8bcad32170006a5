"""Chips with one layer on each core: what a layer takes, and which core gets which layer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import LAYERED, ROOMY, bare, codes, held, images, joined, mixed, network, neurons

from neurocompress.chip.profile.load import load_profile
from neurocompress.fit.check import check_fit
from neurocompress.fit.mapping.layer_cores import LayerCore, assigned, kernel_words, layer_cores, neuron_words
from neurocompress.frontends.nir import read
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Node, Output, Scale, Shape

#: Limits that are lists, the layer that takes most, and what it takes: 5 channels x 2^(4 + 2) for 3 x 3 taps to 3
#: outputs, 5 x 2^(3 + 3) for 7 x 7 neurons, and one for each of 5 biases.
WORDS = {"NC401": ("core.kernel_words", "fc", 320), "NC402": ("core.neuron_words", "conv", 320),
         "NC403": ("core.bias_words", "conv", 5)}


@pytest.mark.parametrize("code", WORDS)
def test_a_layer_larger_than_every_core_breaks_the_rule_of_its_words(code: str) -> None:
    key, layer, need = WORDS[code]
    assert held(images(), {key: [need] * 3}, LAYERED).violations == ()
    above = held(images(), {key: [need - 1] * 3}, LAYERED)
    found, = above.violations
    assert (found.code, found.layer, found.needed, found.available) == (code, layer, need, need - 1)
    unknown = held(images(), {key: None}, LAYERED)
    assert not unknown.violations
    assert code in {u.code for u in unknown.unchecked}


def test_layers_compete_for_the_cores_that_hold_them() -> None:
    # the convolution takes 256 kernel words and 320 neuron words, the matrix 5 x 2^(4 + 2) = 320 and 3
    fits = held(images(), {"core.kernel_words": [320, 256, 8], "core.neuron_words": [8, 320, 8]}, LAYERED)
    assert fits.violations == ()
    alone = held(images(), {"core.kernel_words": [320, 0, 0], "core.neuron_words": [8, 320, 8]}, LAYERED)
    assert codes(alone) == {"NC404"}  # the convolution would fit one core's kernel memory and another's neuron memory
    both = held(images(), {"core.kernel_words": [320, 0, 0], "core.neuron_words": [320, 8, 8]}, LAYERED)
    assert codes(both) == {"NC404"}  # either layer fits the first core
    assert (both.violations[0].needed, both.violations[0].available) == (2, 1)
    first = {"core.kernel_words": [320, 0], "core.neuron_words": [320, 8], "core.bias_words": [5, 5],
             "topology.cores_per_chip": 2}
    assert codes(held(images(), first, LAYERED)) == {"NC404"}  # as many cores as layers
    assert held(images(), first, LAYERED, chips=2).violations == ()  # two such first cores
    few = {key: value[:1] if isinstance(value, list) else 1 for key, value in first.items()}
    assert codes(held(images(), few, LAYERED)) == {"NC301"}  # too few cores is a rule of its own


def test_the_list_of_cores_is_there_when_every_layer_has_one() -> None:
    def told(changed: dict[str, Any], chip: dict[str, dict[str, Any]] = LAYERED, **more: Any) -> list[str]:
        return [note for note in held(images(), changed, chip, **more).notes if "core " in note and "'conv'" in note]

    assert told({"core.kernel_words": [320, 256, 8], "core.neuron_words": [8, 320, 8]}) == [
        "cores with room, not all are alike: 'conv' core 1 (256 kernel, 320 neuron words), 'fc' core 0 (320 kernel, 3 "
        "neuron words)"]
    first = {"core.kernel_words": [320, 0], "core.neuron_words": [320, 8], "core.bias_words": [5, 5],
             "topology.cores_per_chip": 2}
    assert told(first) == []
    assert "core 2" in told(first, chips=2)[0]  # the first of the second chip
    assert told({key: [9999, 9999] if isinstance(v, list) else v for key, v in first.items()})  # no core too many
    assert told({}, ROOMY) == []


def test_whether_a_core_holds_one_layer_may_be_unknown() -> None:
    for key in ("topology.one_layer_per_core", "topology.cores_per_chip"):
        found = held(images(), {key: None}, LAYERED)
        assert not found.violations
        assert "NC404" in {u.code for u in found.unchecked}
    assert held(images(), {"topology.one_layer_per_core": False, "core.kernel_words": [320, 0, 0],
                           "core.neuron_words": [320, 8, 8]}, LAYERED).violations == ()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), layers=st.integers(1, 5), cores=st.integers(1, 5))
def test_the_assignment_of_cores_is_as_large_as_any(data: st.DataObject, layers: int, cores: int) -> None:
    number = st.integers(1, 3)
    made = [LayerCore(str(k), "", (data.draw(number), 1), (1, 1), (1, 1), False) for k in range(layers)]
    each = data.draw(st.lists(number, min_size=cores, max_size=cores))
    found = assigned(made, {"kernel_words": each, "bias_words": None}, cores)
    taken = [at for at in found if at >= 0]
    assert len(set(taken)) == len(taken)
    assert all(at < 0 or made[k].kernel_words <= each[at] for k, at in enumerate(found))
    best = max(  # every way to give cores to layers
        sum(made[k].kernel_words <= each[at] for k, at in enumerate(way) if at < cores)
        for way in permutations(range(max(cores, layers)), layers)
    )
    assert len(taken) == best


@pytest.mark.parametrize(("c", "f", "kernel", "out", "kernel_need", "neuron_need"), [
    (16, 32, (4, 4), (60, 60), 8192, 131072), (32, 100, (3, 3), (8, 8), 65536, 6400),
    (8, 20, (3, 3), (33, 33), 4096, 81920), (784, 100, (1, 1), (1, 1), 100352, 100),
    (40, 100, (3, 3), (8, 8), 81920, 6400),
])
def test_words_of_a_layer_are_the_published_ones(
    c: int, f: int, kernel: Shape, out: Shape, kernel_need: int, neuron_need: int
) -> None:
    assert kernel_words(c, f, *kernel) == kernel_need
    assert neuron_words(f, *out) == neuron_need


@given(c=st.integers(1, 70), f=st.integers(1, 300), ky=st.integers(1, 16), kx=st.integers(1, 16))
def test_words_are_padded_to_powers_of_two(c: int, f: int, ky: int, kx: int) -> None:
    taps = next(2**k for k in range(20) if 2**k >= ky * kx)
    channels = next(2**k for k in range(20) if 2**k >= f)
    assert kernel_words(c, f, ky, kx) == c * taps * channels
    sides = [next(2**k for k in range(20) if 2**k >= n) for n in (ky, kx)]
    assert neuron_words(f, ky, kx) == f * sides[0] * sides[1]


def test_a_convolution_of_36000_weights_does_not_fit_a_core_of_65536_words() -> None:
    rng = np.random.default_rng(0)
    made = network({"in": Input((40, 10, 10)), "conv": Conv(rng.normal(size=(100, 40, 3, 3)), None, (1, 1),
                    ((0, 0), (0, 0)), (1, 1)), "a": neurons((100, 8, 8)), "out": Output()})
    found = check_fit(made, load_profile("speck2f"))
    assert codes(found) == {"NC401"}
    assert (found.violations[0].layer, found.violations[0].needed) == ("conv", 81920)
    assert found.violations[0].available == 65536


def oblong() -> Network:
    """Nothing square: 2 x 9 x 12 -> 6 channels of 2 x 3 taps in two groups -> a matrix over 6 x 8 x 7."""
    nodes: dict[str, Node] = {
        "in": Input((2, 9, 12)),
        "conv": Conv(mixed(6, 1, 2, 3), None, (1, 2), ((0, 0), (1, 2)), (1, 1), groups=2),
        "a": neurons((6, 8, 7)), "scale": Scale(np.full((6, 1, 1), 0.5)), "flat": Flatten(),
        "fc": Linear(mixed(4, 6 * 8 * 7), np.zeros(4)), "b": neurons((4,)), "out": Output(),
    }
    return network(nodes)


def test_layers_are_seen_as_the_chip_sees_them() -> None:
    conv, fc = layer_cores(oblong())
    assert conv == LayerCore("conv", "a", (2, 6), (2, 3), (8, 7), False, (1, 2), (0, 2))
    assert fc == LayerCore("fc", "b", (6, 4), (8, 7), (1, 1), True)
    assert (conv.kernel_words, conv.neuron_words, conv.bias_words) == (2 * 8 * 8, 6 * 8 * 8, 0)
    assert (fc.kernel_words, fc.neuron_words, fc.bias_words) == (6 * 64 * 4, 4, 4)


def test_the_longer_side_of_what_is_not_square_counts() -> None:
    for key, need, code in (("core.kernel_size_max", 8, "NC407"), ("core.padding_max", 2, "NC408"),
                            ("core.map_side_max", 8, "NC409"), ("core.channels_max", 6, "NC406")):
        assert held(oblong(), {key: need}, LAYERED).violations == ()
        found = held(oblong(), {key: need - 1}, LAYERED)
        assert codes(found) == {code}
        assert found.violations[0].needed == need


def test_a_convolution_along_a_line_is_one_pixel_high() -> None:
    made = network({"in": Input((2, 9)), "conv": Conv(mixed(5, 2, 3), np.zeros(5), (2,), ((1, 0),), (1,)),
                    "a": neurons((5, 4)), "out": Output()})
    assert layer_cores(made) == (LayerCore("conv", "a", (2, 5), (1, 3), (1, 4), True, (1, 2), (0, 1)),)


def test_the_network_that_ran_on_a_speck_fits_it(shared: Path) -> None:
    made = read(shared / "models" / "nir_paper" / "cnn" / "cnn_sinabs.nir")
    found = check_fit(made, load_profile("speck2f"))
    assert found.verdict == "fits"
    assert any("'9' core 3 (32,768 kernel, 256 neuron words)" in note for note in found.notes)


@pytest.mark.parametrize(("changed", "key", "value", "size", "below"), [
    ({"stride": 2}, "core.strides", [1], 2, 1), ({"stride": 3}, "core.strides", [1, 2, 4], 3, 2),
    ({"stride": 1}, "core.strides", [2, 4], 1, 2),  # none below: the least there is
    ({"pool": 2}, "core.pools", [1, 4], 2, 1),
])
def test_a_size_that_is_not_listed_breaks_its_rule(
    changed: dict[str, Any], key: str, value: list[int], size: int, below: int
) -> None:
    code = {"core.strides": "NC410", "core.pools": "NC411"}[key]
    assert held(images(**changed), {key: [*value, size, 1]}, LAYERED).violations == ()
    above = held(images(**changed), {key: value}, LAYERED)
    assert codes(above) == {code}
    assert (above.violations[0].needed, above.violations[0].available) == (size, below)
    assert code in {u.code for u in held(images(**changed), {key: None}, LAYERED).unchecked}


@pytest.mark.parametrize(("made", "needed"), [(joined, 2), (bare, 1)])
def test_a_core_of_one_layer_takes_one_set_of_weights(
    made: Callable[[], Network], needed: int
) -> None:
    assert "NC405" not in codes(held(made(), {}))
    found = held(made(), {}, LAYERED)
    assert codes(found) == {"NC405"}
    assert found.violations[0].needed == needed
