"""What the Lava back end refuses, what it writes, and what it leaves alone. Needs no Lava."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from lava_networks import random_network
from scipy import sparse

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.errors import Refused
from neurocompress.network.kernel import Kernel
from neurocompress.targets.lava import emit, refusals
from neurocompress.targets.lava.names import identifiers
from neurocompress.targets.lava.processes import connection_process, is_native, padding
from neurocompress.targets.lava.source import write

POPULATION = Population("lif", (3,), np.array(100), np.array(20), np.array(50), np.array(0))
SYNAPSES = Synapses("fc", "in", "lif", np.full((3, 4), 10), None, 0, 8, "mixed", (4,), (3,))
NETWORK = IntegerNetwork("in", (4,), "lif", (POPULATION,), (SYNAPSES,), Arithmetic())


def with_population(**changes):
    return replace(NETWORK, populations=(replace(POPULATION, **changes),))


def with_synapses(**changes):
    return replace(NETWORK, synapses=(replace(SYNAPSES, **changes),))


BAD = {
    "vth of 18 bits": (with_population(vth=np.array(2**17)), "lif", "vth is 131072"),
    "negative vth": (with_population(vth=np.array([5, -1, 5])), "lif", "vth is -1 to 5"),
    "a float threshold": (with_population(vth=np.array(50.0)), "lif", "vth holds float64"),
    "many spikes over no threshold": (with_population(vth=np.array(0), spikes_per_step="many"), "lif", "vth is 0"),
    "du of 13 bits": (with_population(du=np.array(4096)), "lif", "du is 4096"),
    "negative dv": (with_population(dv=np.array(-1)), "lif", "dv is -1"),
    "bias beyond its mantissa": (with_population(bias_mant=np.array(4096)), "lif", "bias_mant is 4096"),
    "bias beyond int16": (with_population(bias_mant=np.array(70000)), "lif", "bias_mant is 70000"),
    "bias exponent": (with_population(bias_exp=8), "lif", "bias_exp is 8"),
    "negative bias exponent": (with_population(bias_exp=-1), "lif", "bias_exp is -1"),
    "reset_by": (with_population(reset_by=2**23), "lif", "reset_by is 8388608"),
    "initial state": (with_population(v_init=2**23), "lif", "v_init is 8388608"),
    "parameters of another shape": (with_population(dv=np.array([1, 2])), "lif", "does not broadcast"),
    "unknown reset": (with_population(reset="soft"), "lif", "reset is 'soft'"),
    "latency": (with_population(latency=0), "lif", "latency is 0"),
    "weight too large": (with_synapses(weight=np.full((3, 4), 256)), "fc", "weights are 256"),
    "odd mixed weight": (with_synapses(weight=np.full((3, 4), 3)), "fc", "no multiple of 2"),
    "4 bit weight off its grid": (with_synapses(bits=4), "fc", "no multiple of 32"),
    "negative excitatory weight": (with_synapses(weight=np.full((3, 4), -2), sign="excitatory"), "fc", "are -2"),
    "float weight": (with_synapses(weight=np.full((3, 4), 2.0)), "fc", "weights are float64"),
    "sparse weight too small": (with_synapses(weight=sparse.csr_array(np.full((3, 4), -258))), "fc", "are -258"),
    "weights of another shape": (with_synapses(weight=np.full((4, 3), 2)), "fc", "expected (3, 4)"),
    "exponent": (with_synapses(exponent=8), "fc", "exponent is 8"),
    "delay": (with_synapses(extra_delay=64), "fc", "delay is 64"),
    "a spike before its target starts": (with_population(latency=3), "fc", "2 steps before 'lif' starts"),
    "9 bit weights": (with_synapses(bits=9), "fc", "9 bit"),
    "unknown source": (with_synapses(source="gone"), "fc", "'gone' is no population"),
    "graded spikes into a plain connection": (replace(NETWORK, input_message_bits=3), "fc", "graded spikes"),
    "sums beyond 32 bits": (
        replace(NETWORK, input_message_bits=24, synapses=(
            replace(SYNAPSES, weight=np.full((3, 4), 254), message_bits=24),)), "fc", "32 bits"),
    "other arithmetic": (replace(NETWORK, arithmetic=Arithmetic(state_bits=23)), "", "state_bits 23"),
    "unknown output": (replace(NETWORK, output="gone"), "", "'gone' is no population"),
    "a name with a line break": (
        replace(NETWORK, populations=(replace(POPULATION, name="a\nimport os"),), synapses=(), output="a\nimport os"),
        "", "can not be printed"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name, tmp_path):
    network, where, what = BAD[name]
    problems = refusals(network)
    assert any(what in p.what and where in p.where and p.fix for p in problems), problems
    with pytest.raises(Refused):
        emit(network, tmp_path / "lava")
    assert list(tmp_path.iterdir()) == []


def test_refuses_everything_at_once():
    network = replace(with_population(du=np.array(5000), vth=np.array(2**20)),
                      synapses=(replace(SYNAPSES, exponent=9, bits=4),))
    assert len(refusals(network)) == 4


@pytest.mark.parametrize(("changes", "native"), [
    ({}, True), ({"reset": "subtract", "reset_by": 3200}, False), ({"fire": ">="}, False),
    ({"spikes_per_step": "many"}, False), ({"vth": np.array([50, 50, 51])}, False), ({"vth": np.full(3, 50)}, True),
    ({"v_floor": np.array(-5)}, False), ({"two_phase": True}, False), ({"v_init": 1}, False),
    ({"spiking": False}, False),
])
def test_uses_lif_where_it_is_exact(changes, native):
    network = with_population(**changes)
    assert is_native(network, network.populations[0]) == native


def test_a_population_whose_spikes_arrive_late_is_not_native():
    back = replace(SYNAPSES, name="back", source="lif", source_shape=(3,), weight=np.full((3, 3), 2), feedback=True)
    network = replace(NETWORK, synapses=(SYNAPSES, back))
    assert not is_native(network, network.populations[0])
    assert padding(network) == 1
    assert padding(replace(network, synapses=(SYNAPSES, replace(back, extra_delay=5)))) == 6


@pytest.mark.parametrize(("changes", "process"), [
    ({}, "Dense"), ({"extra_delay": 1}, "DelayDense"), ({"weight": np.eye(3, 4, dtype=int)[::-1] * 0}, "Sparse"),
    ({"weight": sparse.csr_array(np.eye(3, 4, dtype=int) * 2), "extra_delay": np.array([0, 1, 0, 0])}, "DelayDense"),
])
def test_chooses_a_matrix_by_density_and_delay(changes, process):
    network = with_synapses(**changes)
    assert connection_process(network, network.synapses[0]) == process


@pytest.mark.parametrize(("weight_shape", "groups", "more", "process"), [
    ((2, 1, 1), 2, {}, "Conv"), ((2, 1, 1), 2, {"exponent": 3}, "Conv"), ((2, 1, 1), 2, {"exponent": -1}, "Sparse"),
    ((2, 1, 1), 2, {"extra_delay": 1}, "DelaySparse"), ((200, 1, 1), 200, {}, "Sparse"),
])
def test_uses_conv_where_it_is_exact(weight_shape, groups, more, process):
    kernel = Kernel.of((groups, 2), weight_shape, (1,), ((0, 0),), (1,), groups)
    shape = kernel.output_shape
    s = Synapses("conv", "in", "lif", np.full(weight_shape, 2), kernel, **({"exponent": 0} | more), bits=8,
                 sign="mixed", source_shape=(groups, 2), target_shape=shape)
    network = IntegerNetwork("in", (groups, 2), "lif", (replace(POPULATION, shape=shape),), (s,), Arithmetic())
    assert refusals(network) == []
    assert connection_process(network, s) == process


def test_a_convolution_that_could_pass_24_bits_becomes_sparse():
    """600 inputs of 254 << 7 pass 2^23; Lava's Conv would wrap."""
    kernel = Kernel.of((600, 1), (1, 600, 1), (1,), ((0, 0),), (1,), 1)
    s = Synapses("conv", "in", "lif", np.full((1, 600, 1), 254), kernel, 7, 8, "mixed", (600, 1), (1, 1))
    network = IntegerNetwork("in", (600, 1), "lif", (replace(POPULATION, shape=(1, 1)),), (s,), Arithmetic())
    assert connection_process(network, s) == "Sparse"


def test_identifiers_stay_close_to_the_names():
    assert identifiers(["fc1", "0", "lif.lif", "if", "fc1", "a b", "a_b", "é", "print", "np"], ["np"]) == [
        "fc1", "layer_0", "lif_lif", "if_", "fc1_", "a_b", "a_b_", "layer", "print_", "np_"]


@pytest.mark.parametrize("seed", range(10))
def test_a_program_is_python_with_short_lines(seed):
    text, weights = write(random_network(np.random.default_rng(seed)))
    ast.parse(text, feature_version=(3, 10))
    assert max(map(len, text.splitlines())) <= 120
    assert all(array.dtype.kind in "iu" for array in weights.values())


def test_names_can_not_smuggle_code_in():
    evil = '"""\' + __import__("os").system("true") + \'#'
    network = replace(NETWORK, input=evil, output=evil + "2", populations=(replace(POPULATION, name=evil + "2"),),
                      synapses=(replace(SYNAPSES, name=evil, source=evil, target=evil + "2"),))
    calls = {node.func.id for node in ast.walk(ast.parse(write(network)[0]))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert calls == {"Path", "Dense", "LIFReset", "Player", "Layer", "main", "network"} - {"network"}


def test_the_folder_holds_what_the_program_needs(tmp_path):
    emit(NETWORK, tmp_path / "lava")
    names = {str(p.relative_to(tmp_path / "lava")) for p in (tmp_path / "lava").rglob("*") if p.is_file()}
    assert names == {"program.py", "stream.py", "weights.npz", "spike_io/__init__.py", "spike_io/process.py",
                     "spike_io/models.py"}
    emit(with_population(fire=">="), tmp_path / "lava")  # replaces it
    assert (tmp_path / "lava/neurons/models.py").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["lava"]
    for file in (tmp_path / "lava").rglob("*.py"):
        assert "neurocompress" not in file.read_text()
        assert "torch" not in file.read_text()


def test_uv_finds_what_the_program_requires():
    """PEP 723: a comment block that is TOML."""
    block = re.search(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", write(NETWORK)[0])
    assert block
    assert tomllib.loads("".join(line[2:] for line in block["content"].splitlines(keepends=True))) == {
        "requires-python": "==3.10.*", "dependencies": ["lava-nc==0.10.0"]}


def test_leaves_a_folder_of_something_else_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not replace")
    with pytest.raises(Refused, match="holds no Lava program"):
        emit(NETWORK, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "do not replace"


def test_says_so_when_the_folder_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="can not be written"):
        emit(NETWORK, tmp_path / "file" / "lava")
