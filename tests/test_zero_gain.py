"""Neurons that take no input (r = 0, w_in = 0, a decay of 0 that the input passes): compressed and deployed."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress import compress, deploy, load
from neurocompress.backends import backend
from neurocompress.chip.profile.load import load_profile, profile_names
from neurocompress.compression.methods import methods
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import recipe_of
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.errors import Refused
from neurocompress.network.conventions import Conventions
from neurocompress.network.drive import thresholds_by_row
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Input, Linear, Neuron, Node, Output
from neurocompress.simulation.float import simulate

SPIKES = (np.random.default_rng(3).random((3, 12, 4)) < 0.4).astype(np.uint8)


def neurons(gains: np.ndarray, kind: str, leak: float) -> Neuron:
    one = np.ones(gains.shape)
    if kind == "w_in":
        return Neuron(gains.shape, 2 * one, one, 0 * one, 8 * one, leak * one, 2 * one, 4 * gains)
    return Neuron(gains.shape, 8 * gains, one, 0 * one, 8 * one, leak * one)


def network(gains: np.ndarray, kind: str = "r", leak: float = 0.0, biased: bool = False) -> Network:
    rng = np.random.default_rng(1)
    bias = rng.normal(0, 0.3, len(gains)) if biased else None
    nodes: dict[str, Node] = {
        "input": Input((4,)),
        "fc": Linear(rng.normal(0.2, 0.6, (len(gains), 4)), bias), "n": neurons(gains, kind, leak),
        "out": Linear(rng.normal(0.3, 0.6, (3, len(gains)))), "m": neurons(np.ones(3), "r", 0.0),
        "output": Output((3,)),
    }
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@settings(max_examples=60, deadline=None)
@given(gains=st.lists(st.sampled_from([0.0, 5e-324, 1.0, 0.7, -0.5]), min_size=2, max_size=5),
       kind=st.sampled_from(["r", "w_in"]), method=st.sampled_from(sorted(methods())),
       bits=st.sampled_from([None, 3, 8]), sparsity=st.sampled_from([0.0, 0.5]), biased=st.booleans(),
       leak=st.sampled_from([0.0, 1.5]), scale=st.sampled_from(["per-channel", "per-layer"]))
def test_no_method_writes_what_is_no_number(
    gains: list[float], kind: str, method: str, bits: int | None, sparsity: float, biased: bool, leak: float, scale: str
) -> None:
    there = network(np.array(gains), kind, leak, biased)
    recipe = recipe_of(method=method, bits=bits, sparsity=sparsity, distill=0, grid={"scale": scale},
                       biases="corrected" if biased else "kept")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        made = compress_network(there, SPIKES, recipe)
    layer, deaf = made.layers["fc"], np.abs(gains) < 1e-300
    assert np.isfinite(layer.weight).all()
    assert not layer.weight[deaf].any()
    assert layer.step is None or np.isfinite(layer.step).all()
    assert any("take no input" in note for note in made.notes) == deaf.any()
    # a neuron that takes no input does as before, whatever became of its weights
    before, after = (simulate(net, SPIKES, ("n",))["n"] for net in (there, made.network))
    np.testing.assert_array_equal(before[..., deaf], after[..., deaf])


@pytest.mark.parametrize("target", profile_names())
@pytest.mark.parametrize("kind", ["r", "w_in"])
def test_no_chip_gets_what_is_no_number(target: str, kind: str) -> None:
    for gains in (np.array([1.0, 0.0, 1.0]), np.zeros(3)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            made = compress_for(network(gains, kind), load_profile(target), SPIKES, recipe_of(method="gptq"))
            chip = made.integer
        held = next(s for s in chip.synapses if s.name == "fc").weight
        assert isinstance(held, np.ndarray)
        assert not held[gains == 0].any()
        if gains.any():
            assert held[gains != 0].any()


def test_the_chip_keeps_spikes_of_a_leak_that_no_input_moves() -> None:
    """The potential of leak 1.5 passes 1 after some steps, whatever arrives: on the chip as in the model."""
    from neurocompress.emulation.emulator import emulate

    there = network(np.array([0.0, 0.0, 1.0]), "r", 1.5)
    made = compress_for(there, load_profile("loihi2"), SPIKES, recipe_of(method="gptq"))
    wanted = simulate(there, SPIKES, ("n",))["n"][..., :2]
    found = emulate(made.integer, SPIKES, ("n",)).spikes["n"][..., :2]
    assert wanted.any()
    np.testing.assert_array_equal(found, wanted)


def test_a_neuron_of_a_channel_that_takes_no_input_alone_is_refused() -> None:
    gains = np.ones((2, 3, 3))
    gains[1, 0, 2] = 0.0
    nodes: dict[str, Node] = {
        "input": Input((1, 3, 3)),
        "conv": Conv(np.ones((2, 1, 3, 3)), None, (1, 1), ((1, 1), (1, 1)), (1, 1)),
        "n": neurons(gains, "r", 0.0), "output": Output((2, 3, 3)),
    }
    there = Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))
    spikes = (np.random.default_rng(3).random((3, 12, 1, 3, 3)) < 0.4).astype(np.uint8)
    assert np.isfinite(compress_network(there, spikes, recipe_of(method="sbc", bits=4)).layers["conv"].weight).all()
    for target in ("loihi2", "spinnaker2", "brainscales2"):
        with pytest.raises(Refused, match="NC111 n: ratio of gains within a channel: inf"):
            compress_for(there, load_profile(target), spikes, recipe_of(method="gptq")).integer_network()


def test_gains_of_both_signs_in_a_channel_do_not_cancel() -> None:
    gains = np.ones((1, 1, 2))
    gains[0, 0, 1] = -1.0
    nodes: dict[str, Node] = {
        "input": Input((1, 1, 2)), "conv": Conv(np.ones((1, 1, 1, 1)), None, (1, 1), ((0, 0), (0, 0)), (1, 1)),
        "n": neurons(gains, "r", 0.0), "output": Output((1, 1, 2)),
    }
    spikes = np.ones((2, 5, 1, 1, 2), dtype=np.uint8)
    there = Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))
    assert compress_network(there, spikes, recipe_of(method="rtn", bits=8)).layers["conv"].weight.all()


def test_ratios_of_gains_are_those_of_the_rows() -> None:
    gain = np.array([2.0, 0.0, 4.0])
    np.testing.assert_array_equal(thresholds_by_row(gain, (3,)), 1.0)
    np.testing.assert_array_equal(thresholds_by_row(gain[None], (1, 3)), [[1.0, np.inf, 0.5]])
    np.testing.assert_array_equal(thresholds_by_row(np.array([[0.0, 0.0], [1.0, 3.0]]), (2, 2)), [[1, 1], [2, 2 / 3]])


@pytest.mark.parametrize("name", ["r_r0one", "r_win0"])
def test_reported_networks_are_compressed_and_deployed(name: str, shared: Path, tmp_path: Path) -> None:
    model, data = shared / f"faults/networks/{name}.nir", shared / f"faults/networks/{name}.npz"
    made = compress(model, data, bits=4, sparsity=0.3)
    backend("nir").write(made.network, tmp_path / "small.nir")
    assert np.isfinite(load(tmp_path / "small.nir").nodes["f"].weight).all()  # type: ignore[union-attr]
    assert deploy(model, "loihi2", data=data, method="gptq", out=tmp_path / "bundle").passed
