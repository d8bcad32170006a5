"""The NIR reader against nir's own writer, PyTorch's shapes, and files that other platforms exported."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network import nodes as n
from neurocompress.network.graph import Network
from neurocompress.network.shapes import output_shape
from neurocompress.report.inspect import inspect_network

RNG = np.random.default_rng(7)


def lif(size: int, **changed: np.ndarray) -> nir.LIF:
    values = {"tau": np.full(size, 0.02), "r": np.ones(size), "v_leak": np.zeros(size), "v_threshold": np.ones(size)}
    return nir.LIF(**values | changed)


def stored(path: Path, nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], **graph: object) -> Path:
    nir.write(path, nir.NIRGraph(nodes, edges, type_check=False, **graph))
    return path


def between(path: Path, node: nir.NIRNode, shape: tuple[int, ...], out: tuple[int, ...]) -> Network:
    nodes = {"in": nir.Input(np.array(shape)), "x": node, "out": nir.Output(np.array(out))}
    return read(stored(path, nodes, [("in", "x"), ("x", "out")]), dt=1e-3)


@pytest.mark.parametrize("kind", ["I", "IF", "LI", "LIF", "CubaLI", "CubaLIF"])
def test_every_neuron_keeps_its_parameters(tmp_path: Path, kind: str) -> None:
    names = {"I": "r", "IF": "r v_threshold v_reset", "LI": "tau r v_leak", "LIF": "tau r v_leak v_threshold v_reset",
             "CubaLI": "tau_syn tau_mem r v_leak w_in",
             "CubaLIF": "tau_syn tau_mem r v_leak w_in v_threshold v_reset"}[kind].split()
    values = {name: RNG.uniform(0.1, 0.4, (2, 3)) + (name == "v_threshold") for name in names}
    neuron = between(tmp_path / "x.nir", getattr(nir, kind)(**values), (2, 3), (2, 3)).nodes["x"]
    assert isinstance(neuron, n.Neuron)
    assert neuron.kind == kind
    for name, value in values.items():
        np.testing.assert_array_equal(getattr(neuron, "tau_mem" if name == "tau" else name), value)


def test_every_stateless_node(tmp_path: Path) -> None:
    w = RNG.normal(size=(3, 4)).astype(np.float32)
    path = tmp_path / "x.nir"
    linear = between(path, nir.Linear(w), (4,), (3,)).nodes["x"]
    assert linear.weight.dtype == np.float32
    assert linear.bias is None
    affine = between(path, nir.Affine(w, w[:, 0]), (4,), (3,)).nodes["x"]
    np.testing.assert_array_equal(affine.bias, w[:, 0])
    assert isinstance(between(path, nir.Scale(w[0]), (4,), (4,)).nodes["x"], n.Scale)
    assert isinstance(between(path, nir.Threshold(w[0]), (4,), (4,)).nodes["x"], n.Threshold)
    assert isinstance(between(path, nir.Delay(np.abs(w[0])), (4,), (4,)).nodes["x"], n.Delay)
    flat = between(path, nir.Flatten(np.array([2, 3, 4]), 1, -1), (2, 3, 4), (2, 12))
    assert flat.shapes["x"] == (2, 12)
    for kind, name in ((nir.SumPool2d, "sum"), (nir.AvgPool2d, "average")):
        pool = between(path, kind(np.array([2, 3]), np.array([2, 1]), np.array([1, 0])), (2, 6, 6), (2, 4, 4))
        assert vars(pool.nodes["x"]) == vars(n.Pool(name, (2, 3), (2, 1), ((1, 1), (0, 0))))
        assert pool.shapes["x"] == (2, 4, 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolution_shapes_are_those_of_pytorch(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    import torch

    axes = data.draw(st.integers(1, 2))
    small = st.integers(1, 3)
    groups = data.draw(small)
    kernel = [data.draw(st.integers(1, 4)) for _ in range(axes)]
    weight = np.ones((groups * data.draw(small), data.draw(small), *kernel), np.float32)
    stride, dilation = (tuple(data.draw(small) for _ in range(axes)) for _ in range(2))
    padding: str | tuple[int, ...] = tuple(data.draw(st.integers(0, 3)) for _ in range(axes))
    if max(stride) == 1 and data.draw(st.booleans()):
        padding = data.draw(st.sampled_from(["same", "valid"]))
    shape = (groups * weight.shape[1], *(data.draw(st.integers(10, 14)) for _ in range(axes)))
    conv = torch.nn.functional.conv1d if axes == 1 else torch.nn.functional.conv2d
    expected = conv(torch.ones(1, *shape), torch.from_numpy(weight), None, stride, padding, dilation, groups).shape[1:]
    bias = np.zeros(len(weight), np.float32)
    node = nir.Conv1d(None, weight, stride[0], padding if isinstance(padding, str) else padding[0], dilation[0], groups,
                      bias) if axes == 1 else nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
    node.input_shape = shape[1] if axes == 1 else shape[1:]
    network = between(tmp_path_factory.mktemp("conv") / "x.nir", node, shape, tuple(expected))
    assert network.shapes["x"] == tuple(expected)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 3), st.integers(1, 3)),
       st.tuples(st.integers(4, 12), st.integers(4, 12)), st.integers(0, 3))
def test_pool_shapes_are_those_of_pytorch(
    kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int], pad: int
) -> None:
    import torch

    padding = tuple(min(pad, k // 2) for k in kernel)
    pool = n.Pool("average", kernel, stride, tuple((p, p) for p in padding))
    expected = torch.nn.functional.avg_pool2d(torch.ones(1, 2, *size), kernel, stride, padding).shape[1:]
    assert output_shape(pool, (2, *size)) == tuple(expected)


def test_scalar_settings_hold_for_both_axes_and_bias_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.nir"
    conv = nir.Conv2d((8, 8), np.ones((2, 1, 3, 3)), 2, 1, 1, 1, np.zeros(2))
    stored(path, {"in": nir.Input(np.array([1, 8, 8])), "x": conv, "out": nir.Output(np.array([2, 4, 4]))},
           [("in", "x"), ("x", "out")])
    with h5py.File(path, "r+") as file:
        group = file["node/nodes/x"]
        for key, value in (("stride", 2), ("padding", 1), ("dilation", 1)):
            del group[key]
            group[key] = value
        del group["bias"], group["input_shape"]
    network = read(path)
    assert network.shapes["x"] == (2, 4, 4)
    assert network.nodes["x"].stride == (2, 2)
    assert network.nodes["x"].bias is None


AFFINE = (nir.Affine(np.ones((3, 2)), np.zeros(3)), nir.Affine(np.ones((2, 3)), np.zeros(2)))
ENDS = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}
GRAPHS: dict[str, tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]] = {
    "sequential": ({"a": AFFINE[0], "b": nir.Delay(np.array([0.5, 0.1, 0.2])), "c": lif(3), "d": AFFINE[1]},
                   [("input", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "output")]),
    "recurrent on the first node": ({"a": lif(2), "b": nir.Linear(np.ones((2, 2)))},
                                    [("input", "a"), ("a", "b"), ("b", "a"), ("a", "output")]),
    "recurrent on the second node": ({"a": nir.Linear(np.ones((2, 2))), "b": lif(2)},
                                     [("input", "a"), ("a", "b"), ("b", "b"), ("b", "output")]),
    "branches that merge": ({"a": lif(2), "b": AFFINE[0], "c": lif(3), "d": AFFINE[0], "e": lif(3), "f": AFFINE[1]},
                            [("input", "a"), ("a", "b"), ("b", "c"), ("a", "d"), ("d", "e"), ("c", "f"), ("e", "f"),
                             ("f", "output")]),
    "residual": ({"a": lif(2), "b": AFFINE[0], "c": lif(3), "d": AFFINE[1], "e": lif(2)},
                 [("input", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "e"), ("e", "output")]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_the_conformance_suite_keep_their_edges(tmp_path: Path, name: str) -> None:
    nodes, edges = GRAPHS[name]
    network = read(stored(tmp_path / "x.nir", ENDS | nodes, edges), dt=1e-3)
    assert set(network.edges) == set(edges)
    assert set(network.nodes) == set(ENDS | nodes)
    assert len(network.populations) == sum(isinstance(node, nir.LIF) for node in nodes.values())


def test_nested_graphs_become_dotted_names_and_their_ends_vanish(tmp_path: Path) -> None:
    inner = nir.NIRGraph({**ENDS, "lif": lif(2), "rec": nir.Linear(np.ones((2, 2)))},
                         [("input", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")])
    middle = nir.NIRGraph({**ENDS, "deep": inner}, [("input", "deep"), ("deep", "output")])
    network = read(stored(tmp_path / "x.nir", {**ENDS, "a": nir.Linear(np.ones((2, 2))), "sub": middle, "lif": lif(2)},
                          [("input", "a"), ("a", "sub"), ("sub", "lif"), ("lif", "output")]), dt=1e-3)
    assert set(network.edges) == {
        ("input", "a"), ("a", "sub.deep.lif"), ("sub.deep.lif", "sub.deep.rec"), ("sub.deep.rec", "sub.deep.lif"),
        ("sub.deep.lif", "lif"), ("lif", "output")}


def test_nested_graphs_without_ends_of_the_whole(tmp_path: Path) -> None:
    parts = {name: nir.NIRGraph.from_list(nir.Affine(np.ones((2, 2)), np.zeros(2)), lif(2)) for name in ("a", "b", "c")}
    edges = [("a", "b"), ("a", "c"), ("b", "junction"), ("c", "junction")]
    network = read(stored(tmp_path / "x.nir", {**parts, "junction": lif(2)}, edges), dt=1e-3)
    assert network.input == "a.input"
    assert network.inputs_of("junction") == ("b.lif", "c.lif")
    assert network.inputs_of(network.output) == ("junction",)


def test_a_signal_that_a_nested_graph_would_count_twice_is_refused(tmp_path: Path) -> None:
    inner = nir.NIRGraph(dict(ENDS), [("input", "output")])
    path = stored(tmp_path / "x.nir", {**ENDS, "a": lif(2), "sub": inner, "b": lif(2)},
                  [("input", "a"), ("a", "sub"), ("sub", "b"), ("a", "b"), ("b", "output")])
    with pytest.raises(Refused, match="sums its signal twice"):
        read(path)


# Conventions: user, metadata, inference, preset, assumption.

def cuba(size: int, dt: float) -> nir.CubaLIF:
    tau_mem, tau_syn = np.full(size, 2e-3, np.float32), np.full(size, 5e-4, np.float32)
    return nir.CubaLIF(tau_syn, tau_mem, tau_mem / np.float32(dt), np.zeros(size), np.ones(size), np.zeros(size),
                       tau_syn / np.float32(dt))


def one_neuron(path: Path, node: nir.NIRNode, metadata: dict[str, object] | None = None) -> Path:
    return stored(path, {**ENDS, "x": node}, [("input", "x"), ("x", "output")], metadata=metadata or {})


def test_dt_is_inferred_from_how_exporters_write_r_and_w_in(tmp_path: Path) -> None:
    network = read(one_neuron(tmp_path / "x.nir", cuba(2, 1e-4)))
    assert network.conventions.dt == 1e-4
    assert any("inferred from r = tau_mem/dt in x" in note for note in network.notes)


def test_dt_is_not_inferred_where_r_and_w_in_disagree(tmp_path: Path) -> None:
    node = cuba(2, 1e-4)
    node.w_in = node.w_in * 2
    network = read(one_neuron(tmp_path / "x.nir", node))
    assert network.conventions.dt == 1e-4
    assert any("dt = 0.0001 s, assumed" in note for note in network.notes)
    assert any("do not tell dt" in note for note in network.notes)


def test_dt_by_precedence(tmp_path: Path) -> None:
    path = one_neuron(tmp_path / "x.nir", lif(2))
    assert read(path).conventions.dt == 1e-4
    assert read(path, preset="norse").conventions.dt == 1e-3
    assert read(path, preset="norse", dt=2e-3).conventions.dt == 2e-3
    assert read(one_neuron(tmp_path / "y.nir", lif(2), {"dt": 5e-4}), preset="norse").conventions.dt == 5e-4
    rockpool = lif(2, r=np.full(2, 0.02 / 1e-3 - 1))
    assert read(one_neuron(tmp_path / "z.nir", rockpool), preset="rockpool").conventions.dt == 1e-3


def test_dt_stays_open_where_nothing_leaks(tmp_path: Path) -> None:
    path = one_neuron(tmp_path / "x.nir", nir.IF(np.ones(2), np.ones(2)))
    network = read(path)
    assert network.conventions.dt is None
    assert any("r = 1 in x: read as one weight per time step" in note for note in network.notes)
    assert read(path, preset="sinabs").conventions.dt == 1e-3
    spikingjelly = one_neuron(tmp_path / "y.nir", nir.IF(np.full(2, 1000.0), np.ones(2)))
    assert read(spikingjelly, preset="spikingjelly").conventions.dt == 1e-3


def test_user_reset_goes_before_the_preset_and_every_convention_has_a_reason(tmp_path: Path) -> None:
    path = one_neuron(tmp_path / "x.nir", lif(2))
    network = read(path, preset="sinabs", reset="zero")
    assert network.conventions.reset == "zero"
    assert "reset = zero, given by the user." in network.notes
    assert "fire = >=, preset sinabs." in network.notes
    assert "decay = exponential, preset sinabs." in network.notes
    with pytest.raises(Refused, match="unknown preset 'loihi'"):
        read(path, preset="loihi")
    with pytest.raises(Refused, match="reset is 'soft'"):
        read(path, reset="soft")


def test_a_step_longer_than_a_time_constant_is_refused(tmp_path: Path) -> None:
    path = one_neuron(tmp_path / "x.nir", lif(2))
    with pytest.raises(Refused, match=r"node 'x': dt = 0\.5 s is longer than its shortest time constant 0\.02 s"):
        read(path, dt=0.5)
    assert read(path, dt=0.02).conventions.dt == 0.02
    assert read(path, dt=0.5, preset="rockpool").conventions.dt == 0.5  # exponential decay is stable at any step


# Networks that others exported.

@pytest.mark.shared
def test_paper_networks_load_without_repairs(shared: Path) -> None:
    cnn = read(shared / "models/nir_paper/cnn/cnn_sinabs.nir", preset="sinabs")
    assert cnn.parameters == 39_890
    assert [cnn.shapes[name] for name in cnn.populations] == [(16, 16, 16), (16, 16, 16), (8, 8, 8), (256,), (10,)]
    for name, hidden in (("bias_zero", 38), ("noBias_subtract", 40)):
        path = shared / f"models/nir_paper/braille/braille_noDelay_{name}.nir"
        braille = read(path)
        assert braille.conventions.dt == 1e-4
        assert braille.shapes["lif1.lif"] == (hidden,)
        assert braille.feedback == {("lif1.w_rec", "lif1.lif")}
        original = nir.read(path)
        for node in ("fc1", "fc2", "lif1.w_rec"):
            np.testing.assert_array_equal(braille.nodes[node].weight, original.nodes[node].weight)
        for field in ("tau_mem", "tau_syn", "r", "w_in", "v_threshold"):
            np.testing.assert_array_equal(getattr(braille.nodes["lif2"], field), getattr(original.nodes["lif2"], field))


@pytest.mark.shared
def test_inspect_counts_what_nir_stores(shared: Path) -> None:
    path = shared / "models/nir_paper/cnn/cnn_sinabs.nir"
    described = inspect_network(read(path))
    original = nir.read(path)
    stored_numbers = sum(node.weight.size + node.bias.size for node in original.nodes.values() if hasattr(node, "bias"))
    assert described["parameters"] == stored_numbers
    assert described["neurons"] == sum(node.r.size for node in original.nodes.values() if isinstance(node, nir.IF))
    assert [p["name"] for p in described["populations"]] == ["1", "3", "6", "10", "12"]
    assert described["notes"]
