"""Files that older or broken exporters made: read where their meaning is clear, refused with a sentence where not."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Linear, Neuron


def well_formed(path: Path) -> Path:
    nodes = {
        "in": nir.Input(np.array([2])), "fc": nir.Affine(np.ones((3, 2)), np.zeros(3)),
        "lif": nir.LIF(np.full(3, 0.02), np.ones(3), np.zeros(3), np.ones(3)), "out": nir.Output(np.array([3])),
    }
    nir.write(path, nir.NIRGraph(nodes, [("in", "fc"), ("fc", "lif"), ("lif", "out")]))
    return path


def changed(path: Path, **values: object) -> Path:
    """A small file with datasets exchanged ("fc__weight": value) or left out (None)."""
    well_formed(path)
    with h5py.File(path, "r+") as file:
        for key, value in values.items():
            place = "node/nodes/" + key.replace("__", "/")
            if place in file:
                del file[place]
            if value is not None:
                file[place] = value
    return path


def sentences(path: Path, **options: object) -> str:
    with pytest.raises(Refused) as refused:
        read(path, **options)  # type: ignore[arg-type]
    assert all(problem.fix and problem.file == str(path) for problem in refused.value.problems)
    return str(refused.value)


@pytest.mark.parametrize(("values", "expected"), [
    ({"fc__weight": np.full((3, 2), np.nan)}, "node 'fc' (Affine): 'weight' holds 6 NaN of 6 values"),
    ({"lif__r": np.array([1, np.inf, 1])}, "node 'lif' (LIF): 'r' holds 1 infinite of 3 values"),
    ({"lif__tau": np.array([0.02, -0.01, 0.0])}, "'tau' is not positive in 2 of 3 values, lowest -0.01 s"),
    ({"lif__v_threshold": np.zeros(3)}, "v_threshold is not above v_reset in 3 of 3 values"),
    ({"lif__tau": None}, "node 'lif' (LIF): 'tau' is missing"),
    ({"lif__gain": np.ones(3)}, "unknown field 'gain' (known: tau, r, v_leak, v_threshold, v_reset)"),
    ({"lif__type": "Izhikevich"}, "node 'lif': its type 'Izhikevich' is unknown"),
    ({"lif__type": None}, "node 'lif': has no type"),
    ({"fc__weight": np.ones((3, 2), bool)}, "'weight' holds booleans"),
    ({"fc__weight": "heavy"}, "'weight' is not numeric"),
    ({"fc__weight": np.ones((3, 2), complex)}, "holds complex128 values, expected numbers or text"),
    ({"fc__weight": np.ones((2, 3, 2))}, "its weight has shape (2, 3, 2)"),
    ({"fc__weight": np.ones((3, 4))}, "takes 4 inputs, got shape (2,)"),
    ({"fc__bias": np.ones(2)}, "its bias has shape (2,), expected (3,)"),
    ({"lif__r": np.ones(4)}, "its r has shape (4,), got an input of shape (3,)"),
    ({"in__shape": np.array([0])}, "its shape (0,) is not the shape of a signal"),
    ({"in__shape": np.array([2.5])}, "'shape' holds float64 values"),
    ({"out__shape": np.array([4])}, "it declares shape (4,), got (3,)"),
])
def test_each_problem_has_its_sentence(tmp_path: Path, values: dict[str, object], expected: str) -> None:
    assert expected in sentences(changed(tmp_path / "x.nir", **values))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path / "x.nir", fc__weight=np.full((3, 2), np.nan), lif__tau=-np.ones(3), out__what=1)
    assert len(sentences(path).splitlines()) == 3


def graph(path: Path, nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]) -> Path:
    nir.write(path, nir.NIRGraph(nodes, edges, type_check=False))
    return path


def test_wiring_problems_have_sentences(tmp_path: Path) -> None:
    ends = {"in": nir.Input(np.array([2])), "out": nir.Output(np.array([2]))}
    path = tmp_path / "x.nir"
    one = {**ends, "a": nir.Linear(np.ones((2, 2)))}
    graph(path, one, [("in", "a"), ("a", "b"), ("b", "out")])
    assert "node 'b': edges name this node, but it does not exist" in sentences(path)
    graph(path, one, [("in", "out")])
    assert "node 'a': no path leads to it from the input" in sentences(path)
    graph(path, {**one, "in2": nir.Input(np.array([2]))}, [("in", "a"), ("in2", "a"), ("a", "out")])
    assert "2 Input nodes, expected exactly 1" in sentences(path)
    wide = {**one, "b": nir.Linear(np.ones((3, 2))), "c": nir.Linear(np.ones((2, 3)))}
    graph(path, wide, [("in", "a"), ("in", "b"), ("a", "c"), ("b", "c"), ("c", "out")])
    assert "takes 3 inputs" in sentences(path) or "sums signals of different shapes" in sentences(path)
    graph(path, one, [("in", "a"), ("a", "a"), ("a", "out")])
    read(path)  # a loop of weights is wired right; that it holds no neuron shows when groups are asked for


def test_contradicting_geometry_is_refused(tmp_path: Path) -> None:
    for change, expected in (
        ({"stride": np.array([1, 0])}, "its stride (1, 0) should be at least 1"),
        ({"padding": "full"}, "padding is 'full'"),
        ({"groups": 3}, "do not divide into 3 groups"),
        ({"input_shape": np.array([9, 9])}, "it declares input_shape (9, 9), got an input of shape (1, 8, 8)"),
        ({"stride": np.array([1, 1, 1])}, "should hold one number or 2"),
        ({"dilation": np.array([9, 9])}, "is larger than its padded input"),
    ):
        conv = nir.Conv2d((8, 8), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
        path = graph(tmp_path / "x.nir", {"in": nir.Input(np.array([1, 8, 8])), "c": conv,
                                          "out": nir.Output(np.array([2, 6, 6]))}, [("in", "c"), ("c", "out")])
        with h5py.File(path, "r+") as file:
            for key, value in change.items():
                del file[f"node/nodes/c/{key}"]
                file[f"node/nodes/c/{key}"] = value
        assert expected in sentences(path)


def test_scalars_missing_fields_and_false_biases_are_repaired_and_said(tmp_path: Path) -> None:
    path = changed(tmp_path / "x.nir", lif__v_threshold=1.5, lif__r=np.ones((1, 3)), fc__bias=False,
                   out__shape=np.array([], dtype=int))
    network = read(path, dt=1e-3)
    np.testing.assert_array_equal(network.nodes["lif"].v_threshold, [1.5, 1.5, 1.5])
    np.testing.assert_array_equal(network.nodes["lif"].v_reset, [0, 0, 0])
    assert network.nodes["lif"].r.shape == (3,)
    assert network.nodes["fc"].bias is None
    said = "\n".join(network.notes)
    for part in ("lif: v_threshold given once", "fc: its bias is the boolean False", "leading axis of 1 in r",
                 "out: declares shape nothing"):
        assert part in said


def test_integer_weights_become_the_floats_that_hold_them(tmp_path: Path) -> None:
    network = read(changed(tmp_path / "x.nir", fc__weight=np.arange(6, dtype=np.int8).reshape(3, 2)))
    assert network.nodes["fc"].weight.dtype == np.float32
    np.testing.assert_array_equal(network.nodes["fc"].weight.ravel(), np.arange(6))


def test_edges_written_twice_are_read_once(tmp_path: Path) -> None:
    path = well_formed(tmp_path / "x.nir")
    with h5py.File(path, "r+") as file:
        edges = [[a.decode(), b.decode()] for a, b in file["node/edges"][()]]
        del file["node/edges"]
        file["node"].create_dataset("edges", data=[*edges, edges[0]])
    network = read(path)
    assert len(network.edges) == 3
    assert "Edges written more than once were read once: in -> fc." in network.notes


# The shared files, every one of them.

LOADS = {  # file: what its notes must say ("" when nothing was repaired)
    "nir_malformed/braille_111b0a44": "lif1.lif: w_in is not in the file: 1, as NIR says.",
    "nir_malformed/braille_a7c67c3a": "Edges name 'lif1', which does not exist: read as the group of nodes 'lif1.*'.",
    "nir_malformed/braille_f4edd0a1": "The edge lif1 -> lif1 only says that 'lif1' is recurrent",
    "nir_malformed/braille_noDelay_bias_zero_subgraph": "Edges of 'lif1' name 'lif', which does not exist",
    "nir_malformed/braille_noDelay_noBias_subtract_subgraph": "Edges of 'lif1' name 'lif', which does not exist",
    "nir_malformed/braille_subgraph_77b4a802": "hidden.input: declares shape (12,), which nothing in 'hidden' has",
    "nir_malformed/braille_subtract_subgraph_aee771e1": "read as its only unconnected neuron 'lif1'",
    "nir_malformed/braille_v2_c777885b": "input: shape (256, 12) starts with 256 time steps",
    "nir_malformed/braille_zero_11a0ee4a": "",
    "nir_malformed/lif_norse_2b0feb3d": "1: r, v_leak given once",
    "nir_malformed/scnn_mnist_232ebad8": "",
    "nir_malformed/scnn_mnist_ac9b3878": "4: says stride (1, 1), but only a stride of its kernel (2, 2) fits",
    "nir_malformed/scnn_mnist_e1117a1e": "input: shape (1, 2, 34, 34) starts with a batch axis of 1",
    "nir_other/demo_braille_scalar_parameters": "lif2: r, tau_mem, tau_syn, v_leak, v_threshold, w_in given once",
    "nir_other/snntorch_lif": "",
    "nir_other/spyx_braille_zero_subgraph": "",
    "nir_other/spyx_scnn_mnist": "",
}
REFUSED = {
    "nir_malformed/Braille_snntorch_3049cfa1": ["is a PyTorch file (torch.save), which is never opened"],
    "nir_malformed/demo_scnn_pre_edges_format": [
        "its graph has no edges, a format from before NIR stored them", "node '1' (Conv2d): 'weight' is missing"],
    "nir_malformed/spyx_shd": [
        "node 'LIF' (LIF): 'tau' is not positive in 8 of 64 values", "node 'LIF_1' (LIF)", "give --preset spyx"],
    "nir_other/nirviz_srnn": [
        "node 'cu1' (CubaLIF): 'tau_mem' is not positive", "node 'cu2' (CubaLIF): 'tau_syn' is not positive"],
}


@pytest.mark.shared
def test_every_shared_file_is_expected_to_load_or_to_be_refused(shared: Path) -> None:
    found = {f"{p.parent.name}/{p.stem}" for d in ("nir_malformed", "nir_other")
             for p in (shared / "models" / d).glob("*.nir")}
    assert found == set(LOADS) | set(REFUSED)


@pytest.mark.shared
@pytest.mark.parametrize("name", LOADS)
def test_shared_file_loads_and_says_what_it_repaired(shared: Path, name: str) -> None:
    network = read(shared / f"models/{name}.nir")
    repairs = [note for note in network.notes if " = " not in note and not note.startswith("dt is open")]
    assert any(LOADS[name] in note for note in repairs) if LOADS[name] else not repairs


@pytest.mark.shared
@pytest.mark.parametrize("name", REFUSED)
def test_shared_file_is_refused_with_its_sentences(shared: Path, name: str) -> None:
    said = sentences(shared / f"models/{name}.nir")
    assert all(part in said for part in REFUSED[name])


def by_role(network: Network) -> dict[str, object]:
    """Nodes under names that the exporters do not disagree on."""
    roles = {}
    for name, node in network.nodes.items():
        if isinstance(node, (Linear, Conv)):
            roles[name if "." not in name else "recurrent"] = node
        elif isinstance(node, Neuron):
            roles[name if "." not in name else "hidden"] = node
    return roles


@pytest.mark.shared
@pytest.mark.parametrize(("broken", "twin", "neurons"), [
    ("nir_malformed/braille_noDelay_bias_zero_subgraph", "nir_paper/braille/braille_noDelay_bias_zero", True),
    ("nir_malformed/braille_noDelay_noBias_subtract_subgraph", "nir_paper/braille/braille_noDelay_noBias_subtract",
     True),
    ("nir_other/spyx_braille_zero_subgraph", "nir_paper/braille/braille_noDelay_bias_zero", True),
    ("nir_malformed/braille_111b0a44", "nir_malformed/braille_zero_11a0ee4a", False),
    ("nir_malformed/braille_a7c67c3a", "nir_malformed/braille_zero_11a0ee4a", False),
    ("nir_malformed/braille_f4edd0a1", "nir_malformed/braille_zero_11a0ee4a", False),
    ("nir_malformed/braille_subgraph_77b4a802", "nir_malformed/braille_zero_11a0ee4a", False),
    ("nir_malformed/braille_v2_c777885b", "nir_malformed/braille_zero_11a0ee4a", False),
    ("nir_malformed/scnn_mnist_232ebad8", "nir_paper/cnn/cnn_sinabs", True),
    ("nir_malformed/scnn_mnist_ac9b3878", "nir_paper/cnn/cnn_sinabs", True),
    ("nir_malformed/scnn_mnist_e1117a1e", "nir_paper/cnn/cnn_sinabs", True),
    ("nir_other/spyx_scnn_mnist", "nir_paper/cnn/cnn_sinabs", True),
])
def test_a_repaired_file_equals_its_well_formed_twin(shared: Path, broken: str, twin: str, neurons: bool) -> None:
    ours, other = (read(shared / f"models/{name}.nir") for name in (broken, twin))
    a, b = by_role(ours), by_role(other)
    assert a.keys() == b.keys()
    assert sorted(ours.shapes.values()) == sorted(other.shapes.values())
    assert len(ours.edges) == len(other.edges)
    assert len(ours.feedback) == len(other.feedback)
    for name, node in a.items():
        for field, value in vars(node).items():
            if isinstance(node, (Linear, Conv)) or neurons:
                np.testing.assert_array_equal(value, getattr(b[name], field), err_msg=f"{name}.{field}")


@pytest.mark.shared
def test_spyx_files_are_transposed_and_their_decays_clipped(shared: Path) -> None:
    path = shared / "models/nir_malformed/spyx_shd.nir"
    network = read(path, preset="spyx")
    with h5py.File(path) as file:
        stored = {name: node["weight"][()] for name, node in file["node/nodes"].items() if "weight" in node}
        tau = file["node/nodes/LIF/tau"][()]
    for name, weight in stored.items():
        np.testing.assert_array_equal(network.nodes[name].weight, weight.T)
    lif = network.nodes["LIF"]
    beta = np.clip(1 - 1 / tau.astype(float), 0, 1)  # spyx.nn.LIF: minimum(relu(beta), 1), dt 1
    np.testing.assert_allclose(1 - 1 / lif.tau_mem.astype(float), beta, rtol=1e-7)
