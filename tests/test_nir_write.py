"""Written NIR files: nir reads them, and our reader gives the same network back bit for bit."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.errors import Refused
from neurocompress.frontends import nir_file
from neurocompress.frontends.nir import read
from neurocompress.network import nodes as n
from neurocompress.network.conventions import PRESETS, Conventions, preset
from neurocompress.network.graph import Network
from neurocompress.targets.nir import write


def assert_same(a: Network, b: Network) -> None:
    assert list(a.nodes) == list(b.nodes)
    assert set(a.edges) == set(b.edges)
    assert a.conventions == b.conventions
    assert a.metadata.keys() == b.metadata.keys()
    for name, node in a.nodes.items():
        other = b.nodes[name]
        assert type(node) is type(other)
        for field in dataclasses.fields(node):
            x, y = getattr(node, field.name), getattr(other, field.name)
            if isinstance(x, np.ndarray):
                assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), (name, field.name)
            else:
                assert x == y, (name, field.name)


def neuron(shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> n.Neuron:
    def values() -> np.ndarray:
        return rng.uniform(0.01, 0.02, shape).astype(rng.choice(["f4", "f8"]))

    spikes = {"v_threshold": values() + 1, "v_reset": values()} if kind.endswith("F") else {}
    leaks = {"tau_mem": values(), "v_leak": values()} if "L" in kind else {}
    synapse = {"tau_syn": values(), "w_in": values()} if kind.startswith("Cuba") else {}
    return n.Neuron(shape, values(), **spikes, **leaks, **synapse)


KINDS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Image -> conv -> neurons -> pool -> flatten -> weights -> recurrent neurons -> element-wise nodes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    small = st.integers(1, 2)
    groups = draw(small)
    c_in, c_out = groups * draw(small), groups * draw(small)
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride, dilation = (draw(small), draw(small)), (draw(small), draw(small))
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    same = tuple((s // 2, s - s // 2) for s in spans)
    padding = same if stride == (1, 1) and draw(st.booleans()) else ((draw(small),) * 2, (draw(small),) * 2)
    bias = rng.normal(size=c_out).astype("f4") if draw(st.booleans()) else None
    weight = rng.normal(size=(c_out, c_in // groups, *kernel)).astype("f4")
    conv = n.Conv(weight, bias, stride, padding, dilation, groups)
    chain: dict[str, n.Node] = {"in": n.Input((c_in, 9, 8)), "conv": conv}

    def shape() -> tuple[int, ...]:
        names = list(chain)
        ends = {**chain, "~": n.Output()}
        edges = (*pairwise(names), (names[-1], "~"))
        return Network(ends, edges).shapes["~"]

    chain["a.lif"] = neuron(shape(), draw(st.sampled_from(KINDS)), rng)
    chain["pool"] = n.Pool(draw(st.sampled_from(("sum", "average"))), (2, 1), (1, 2), ((1, 1), (0, 0)))
    chain["flat"] = n.Flatten(0, -1)
    chain["fc"] = n.Linear(rng.normal(size=(3, shape()[0])), None if draw(st.booleans()) else rng.normal(size=3))
    chain["b.lif"] = neuron((3,), draw(st.sampled_from(KINDS[1::2])), rng)
    chain["scale"], chain["step"] = n.Scale(rng.normal(size=3).astype("f4")), n.Threshold(rng.normal(size=3))
    chain["wait"] = n.Delay(rng.uniform(size=3))
    names = [*chain, "out"]
    edges = [*pairwise(names), ("b.lif", "b.rec"), ("b.rec", "b.lif"), ("scale", "wait")]
    chain |= {"out": n.Output((3,)), "b.rec": n.Linear(rng.normal(size=(3, 3)))}
    conventions = dataclasses.replace(draw(st.sampled_from(list(PRESETS.values()))), dt=1e-3)
    ordered = {name: chain[name] for name in sorted(chain)}
    return Network(ordered, tuple(edges), conventions, (), {"": {"who": "me"}, "fc": {"bits": 8}})


@settings(max_examples=40, deadline=None)
@given(networks())
def test_read_gives_back_what_write_wrote_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, network: Network
) -> None:
    path = tmp_path_factory.mktemp("nir") / "x.nir"
    write(network, path)
    assert_same(read(path), network)
    assert set(nir.read(path, type_check=False).nodes) == set(network.nodes)


def small(weight: np.ndarray | None = None, **neuron_values: np.ndarray) -> Network:
    weight = np.eye(2, dtype=np.float32) if weight is None else weight
    values = {"v_threshold": np.ones(2), "v_reset": np.zeros(2)} | neuron_values
    return Network({"in": n.Input((2,)), "fc": n.Linear(weight), "lif": n.Neuron((2,), np.ones(2), **values),
                    "out": n.Output((2,))}, (("in", "fc"), ("fc", "lif"), ("lif", "out")))


def test_v_reset_is_left_out_only_where_it_is_zero(tmp_path: Path) -> None:
    write(small(), tmp_path / "zero.nir")
    write(small(v_reset=np.array([0.0, 0.5])), tmp_path / "some.nir")
    with h5py.File(tmp_path / "zero.nir") as file:
        assert "v_reset" not in file["node/nodes/lif"]
    np.testing.assert_array_equal(nir.read(tmp_path / "some.nir").nodes["lif"].v_reset, [0.0, 0.5])


def test_no_node_carries_metadata_that_old_readers_refuse(tmp_path: Path) -> None:
    facts = {"fc": {"weight_int": np.arange(4, dtype=np.int8).reshape(2, 2), "bits": 8, "scale": np.float32(0.5),
                    "method": "sbc"}, "": {"sparsity": 0.5}}
    write(small(), tmp_path / "x.nir", metadata=facts)
    with h5py.File(tmp_path / "x.nir") as file:
        assert not any("metadata" in node for node in file["node/nodes"].values())
    back = read(tmp_path / "x.nir").metadata
    assert back["fc"]["weight_int"].dtype == np.int8
    np.testing.assert_array_equal(back["fc"].pop("weight_int"), facts["fc"].pop("weight_int"))
    assert back == facts


def test_scalar_parameters_are_written_as_full_arrays(tmp_path: Path) -> None:
    write(small(v_threshold=np.array(1.5), v_reset=np.array(0.25)), tmp_path / "x.nir")
    node = nir.read(tmp_path / "x.nir").nodes["lif"]
    np.testing.assert_array_equal(node.v_threshold, [1.5, 1.5])
    np.testing.assert_array_equal(node.v_reset, [0.25, 0.25])


def test_conventions_travel_and_the_user_goes_before_them(tmp_path: Path) -> None:
    conventions = Conventions(dt=2e-3, reset="subtract", fire=">=", decay="exponential",
                              ignore=("v_reset", "r_without_synapse"))
    write(dataclasses.replace(small(), conventions=conventions), tmp_path / "x.nir")
    assert read(tmp_path / "x.nir").conventions == conventions
    told = read(tmp_path / "x.nir", preset="norse", dt=1e-3)
    assert told.conventions == dataclasses.replace(preset("norse"), dt=1e-3)
    assert ("Preset 'norse', as given, overrides the conventions that the file states: decay, reset, fire, "
            "recurrent_bias_at_start, start.") in told.notes
    assert read(tmp_path / "x.nir", preset="norse").conventions.dt == 2e-3, "a preset's dt is only a default"
    reset = read(tmp_path / "x.nir", reset="zero")
    assert reset.conventions == dataclasses.replace(conventions, reset="zero")
    assert "reset = zero, given by the user, where the file says subtract." in reset.notes


def test_a_preset_that_says_what_the_file_says_overrides_nothing(tmp_path: Path) -> None:
    write(dataclasses.replace(small(), conventions=preset("norse")), tmp_path / "x.nir")
    assert not any("overrides" in note for note in read(tmp_path / "x.nir", preset="norse").notes)


def test_nir_type_checks_square_and_same_padded_convolutions(tmp_path: Path) -> None:
    for kernel, pad in (((3, 3), ((1, 1), (1, 1))), ((3, 1), ((1, 1), (0, 0))), ((2, 4), ((0, 1), (1, 2)))):
        conv = n.Conv(np.ones((2, 1, *kernel), np.float32), None, (1, 1), pad, (1, 1))
        network = Network({"conv": conv, "in": n.Input((1, 6, 5)), "lif": n.Neuron((2, 6, 5), np.ones((2, 6, 5))),
                           "out": n.Output()}, (("in", "conv"), ("conv", "lif"), ("lif", "out")))
        write(network, tmp_path / "x.nir")
        assert tuple(nir.read(tmp_path / "x.nir").nodes["conv"].output_type["output"]) == (2, 6, 5)


def test_what_nir_can_not_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    nodes: dict[str, n.Node] = {
        "in": n.Input((1, 5, 5)), "a/b": n.Scale(np.ones(1)), "out": n.Output(),
        "conv": n.Conv(np.ones((1, 1, 2, 2)), None, (2, 2), ((0, 1), (0, 1)), (1, 1))}
    network = Network(nodes, (("in", "a/b"), ("a/b", "conv"), ("conv", "out")))
    with pytest.raises(Refused) as refused:
        write(network, tmp_path / "x.nir", metadata={"conv": {"what": object()}, "ghost": {"a": 1}})
    assert [p.where for p in refused.value.problems] == ["node 'a/b'", "node 'conv'", "'ghost'"]
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_can_not_be_written_is_refused_and_an_old_file_stays(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can not be written"):
        write(small(), tmp_path / "missing" / "x.nir")
    (tmp_path / "x.nir").mkdir()
    with pytest.raises(Refused, match="can not be written"):
        write(small(), tmp_path / "x.nir")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nir"]


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(small(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.shared
@pytest.mark.parametrize("name", [
    "cnn/cnn_sinabs", "braille/braille_noDelay_bias_zero", "braille/braille_noDelay_noBias_subtract",
    "lif/lif_norse", "lif/two_lif_neurons"])
def test_paper_networks_survive_the_round_trip_and_load_in_nir(shared: Path, tmp_path: Path, name: str) -> None:
    network = read(shared / f"models/nir_paper/{name}.nir")
    write(network, tmp_path / "x.nir")
    assert_same(read(tmp_path / "x.nir"), network)
    ours, original = nir.read(tmp_path / "x.nir"), nir.read(shared / f"models/nir_paper/{name}.nir")
    assert set(ours.edges) == set(original.edges)
    for key, node in original.nodes.items():
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(ours.nodes[key], field), value)


def test_a_network_of_zeros_is_written_so_that_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros pack a thousandfold, further than a file that is read may."""
    monkeypatch.setattr(nir_file, "SMALL", 2**17)
    monkeypatch.setattr(nir_file, "SMALL_BYTES", 2**20)
    weight = np.zeros((2, 400_000), np.float32)
    weight[1, 7] = 0.5
    nodes = {"in": n.Input((400_000,)), "fc": n.Linear(weight), "lif": small().nodes["lif"], "out": n.Output()}
    write(Network(nodes, (("in", "fc"), ("fc", "lif"), ("lif", "out")), Conventions(dt=1e-3)), tmp_path / "zeros.nir")
    found = read(tmp_path / "zeros.nir").nodes["fc"]
    assert isinstance(found, n.Linear)
    np.testing.assert_array_equal(found.weight, weight)
    nir.write(tmp_path / "packed.nir", nir.read(tmp_path / "zeros.nir", type_check=False))
    with pytest.raises(Refused, match="without compression"):
        read(tmp_path / "packed.nir")
