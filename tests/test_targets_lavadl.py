"""Layer files of lava-dl: what an independent reader computes from them is what the emulator computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lavadl_reader import run

from neurocompress.backends import backend
from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.recipe import Recipe
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.emulation.emulator import emulate
from neurocompress.errors import Refused
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Output, Pool
from neurocompress.network.shapes import output_shape
from neurocompress.targets.lavadl import emit, refusals

pytestmark = pytest.mark.usefixtures("one_thread")

PROFILE = load_profile("loihi2-lava-dl")


@pytest.mark.shared
def test_the_reader_computes_what_lava_dl_recorded(shared):
    """PilotNet run by lava-dl: the spikes of eight layers over the 16 steps of its sample, each on its own clock (a
    layer runs one step behind the one before)."""
    folder = shared / "models/lava_dl/pilotnet_lif"
    image = np.load(folder / "image.npy").transpose(2, 1, 0)
    names = [*(f"conv-{k}" for k in range(5)), *(f"fc-{k}" for k in range(3))]
    for k, (name, spikes) in enumerate(zip(names, run(folder / "network.net", np.stack([image] * 16)), strict=False)):
        recorded = np.load(folder / f"{name}.npy")
        expected = recorded.transpose()[k + 1 : k + 17]  # they are (width, height, channels, steps)
        assert np.count_nonzero(spikes[: len(expected)] != expected) == 0, name
        assert expected.any()


def neurons(rng: np.random.Generator, shape: tuple[int, ...]) -> Neuron:
    one = np.ones((1,) * len(shape))
    parameters = {"r": one, "v_threshold": one * rng.uniform(0.5, 1.5), "v_reset": 0 * one}
    if rng.random() < 0.7:
        parameters |= {"tau_mem": one * rng.uniform(3, 20), "v_leak": 0 * one}
        if rng.random() < 0.5:
            parameters |= {"tau_syn": one * rng.uniform(2, 8), "w_in": one}
    return Neuron(shape, **parameters)


def dense(rng: np.random.Generator) -> Network:
    def linear(n_out: int, n_in: int) -> Linear:
        return Linear(rng.normal(0, 1.5, (n_out, n_in)), rng.normal(0, 0.3, n_out) if rng.random() < 0.5 else None)

    nodes = {"input": Input((7,)), "fc1": linear(6, 7), "a": neurons(rng, (6,)), "fc2": linear(5, 6),
             "b": neurons(rng, (5,)), "output": Output((5,))}
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0, gain="unit", bias="membrane"))


def image(rng: np.random.Generator) -> Network:
    """Two convolutions, pooling that is written out, a dense layer."""
    groups = int(rng.choice([1, 2]))
    conv1 = Conv(rng.normal(0, 1, (4, 2 // groups, 3, 2)), rng.normal(0, 0.3, 4), (1, 2), ((1, 1), (0, 0)), (1, 1),
                 groups)
    shape1 = output_shape(conv1, (2, 6, 7))
    conv2 = Conv(rng.normal(0, 1, (3, 4, 2, 2)), None, (1, 1), ((1, 1), (1, 1)), (2, 1), 1)
    shape2 = output_shape(conv2, shape1)
    pool = Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0)))
    flat = int(np.prod(output_shape(pool, shape2)))
    nodes = {"input": Input((2, 6, 7)), "conv1": conv1, "a": neurons(rng, shape1), "conv2": conv2,
             "b": neurons(rng, shape2), "pool": pool, "flat": Flatten(), "fc": Linear(rng.normal(0, 1, (3, flat))),
             "c": neurons(rng, (3,)), "output": Output((3,))}
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0, gain="unit", bias="membrane"))


def integer(network: Network, profile=PROFILE):
    return compress_for(network, profile, None, Recipe(method="rtn")).integer


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from([dense, image]))
def test_the_written_file_computes_what_the_emulator_computes(tmp_path: Path, seed, kind):
    rng = np.random.default_rng(seed)
    chip = integer(kind(rng))
    emit(chip, tmp_path / str(seed))
    x = (rng.random((1, 30, *chip.input_shape)) < 0.3).astype(np.uint8)
    found = emulate(chip, x, [p.name for p in chip.populations])
    if any(o.u_wrapped for o in found.overflow.values()):
        return
    layers = run(tmp_path / str(seed) / "network.net", x[0])
    for p, spikes in zip(chip.populations, layers, strict=True):
        np.testing.assert_array_equal(spikes.reshape(len(spikes), *p.shape), found.spikes[p.name][0], err_msg=p.name)


def tree(group: h5py.Group) -> dict[str, tuple]:
    found = {}
    group.visititems(lambda name, item: found.update({name: (item.ndim, item.dtype.kind)})
                     if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.shared
def test_its_structure_is_that_of_a_file_of_lava_dl(shared, tmp_path):
    """Fields, their number of axes and kinds, layer kind by layer kind; theirs has training parameters besides."""
    emit(integer(image(np.random.default_rng(0))), tmp_path)
    unread = {"neuron/scaleRho", "neuron/tauRho", "neuron/theta", "neuron/wgtExp", "bias"}
    with h5py.File(tmp_path / "network.net") as ours, \
            h5py.File(shared / "models/lava_dl/pilotnet_lif/network.net") as theirs:
        kinds = [ours[f"layer/{k}/type"][0] for k in range(len(ours["layer"]))]
        assert kinds == [b"conv", b"conv", b"flatten", b"dense"]
        for layer in ours["layer"].values():
            alike = (theirs[f"layer/{k}"] for k in range(len(theirs["layer"])))
            model = next(m for m in alike if m["type"][0] == layer["type"][0])
            mine, expected = tree(layer), tree(model)
            for field in set(expected) - unread - {"neuron/type"}:
                assert mine[field] == expected[field], field
            assert set(mine) - set(expected) <= {"neuron/gradedSpike"}


def test_deploy_writes_it_and_the_profile_says_what_it_can_not(tmp_path):
    from neurocompress.verbs.deploy import deploy

    made = deploy("examples/digits/digits.nir", "loihi2-lava-dl", data="examples/digits/digits_calibration.npz",
                  out=tmp_path / "d", method="rtn", reset="subtract")
    assert any("no reset of kind 'subtract'" in note for note in made.report.assumptions)
    with h5py.File(tmp_path / "d/lava-dl/network.net") as file:
        assert len(file["layer"]) == 2
    assert (tmp_path / "d/lava/program.py").is_file()


def test_what_the_format_can_not_express_is_refused_with_its_layer(tmp_path):
    rng = np.random.default_rng(1)
    network = dense(rng)
    network = network.with_nodes({"fc2": replace(network.nodes["fc2"], bias=rng.normal(0, 1, 5))})
    loop = Network(network.nodes | {"rec": Linear(rng.normal(0, 1, (6, 6)))},
                   (*network.edges, ("a", "rec"), ("rec", "a")), network.conventions)
    loihi2 = load_profile("loihi2")

    def reasons(net, profile=PROFILE):
        return " ".join(str(p) for p in refusals(integer(net, profile)))

    assert not reasons(network)
    assert "driven by 'input', 'a'" in reasons(loop, loihi2)
    with pytest.raises(Refused, match="NC113 a: branches"):
        integer(loop)
    soft = replace(network, conventions=replace(network.conventions, reset="subtract", fire=">="))
    text = reasons(soft, loihi2)
    for part in ("resets by subtraction", "fires at the threshold", "no exponent", "no whole weights"):
        assert part in text, part
    empty = network.with_nodes({"fc2": replace(network.nodes["fc2"], weight=np.zeros((5, 6)))})
    assert "all its weights are zero" in reasons(empty)
    lone = network.nodes["b"]
    mixed = network.with_nodes({"b": replace(lone, tau_mem=np.linspace(3, 9, 5), v_leak=np.zeros(5),
                                             r=np.ones(5), tau_syn=None, w_in=None)})
    assert "its neurons differ in dv" in reasons(mixed)
    with pytest.raises(Refused, match="driven by"):
        emit(integer(loop, loihi2), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert "keep real numbers" in str(refusals(integer(network, load_profile("spinnaker2")))[0])
    assert "keep real numbers" in str(backend("lava").refusals(integer(network, load_profile("spinnaker2")))[0])
