"""The NIR file of every target: weights on the grid, the integers behind them, and other tools that run it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import nir
import numpy as np
import pytest

from neurocompress import backends
from neurocompress.chip.profile.load import load_profile, profile_names, profile_text
from neurocompress.errors import Problem, Refused
from neurocompress.frontends.nir import read
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate
from neurocompress.verbs.deploy import deploy

pytestmark = pytest.mark.usefixtures("one_thread")

DT = 1e-4


def neuron(n: int) -> Neuron:
    """As snnTorch exports its LIF neurons: r = tau / dt, so that a weight of 1 adds 1."""
    tau = np.full(n, 5e-3, np.float32)
    return Neuron((n,), r=tau / np.float32(DT), v_threshold=np.ones(n, np.float32), v_reset=np.zeros(n, np.float32),
                  tau_mem=tau, v_leak=np.zeros(n, np.float32))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    nodes = {"input": Input((8,)), "fc1": Linear(rng.normal(0, 0.6, (12, 8)).astype(np.float32)), "a": neuron(12),
             "fc2": Linear(rng.normal(0, 0.6, (4, 12)).astype(np.float32)), "b": neuron(4), "output": Output((4,))}
    path = tmp_path_factory.mktemp("nir") / "model.nir"
    backends.backend("nir").write(Network(nodes, tuple(pairwise(nodes)), Conventions(dt=DT)), path)
    return path


@pytest.mark.parametrize("target", profile_names())
def test_the_file_of_every_target_holds_its_integers(model, tmp_path, target):
    made = deploy(model, target, method="rtn", out=tmp_path / target)
    file = tmp_path / target / "model.nir"
    graph, network, profile = nir.read(file), read(file), load_profile(target)
    facts = graph.metadata["neurocompress_nodes"]
    for name in ("fc1", "fc2"):
        fact, weight = facts[name], graph.nodes[name].weight
        whole, scale = fact["quant_weight_int"], np.asarray(fact["quant_weight_scale"])
        assert whole.shape == weight.shape
        assert whole.dtype.kind == "i"
        rebuilt = (whole * scale.reshape(-1, 1)).astype(weight.dtype)
        np.testing.assert_array_equal(rebuilt, weight)  # bit for bit
        np.testing.assert_array_equal(network.nodes[name].weight, weight)
        assert 0.9 * made.compressed.fmt.m_max < np.abs(whole).max() <= made.compressed.fmt.m_max
        assert fact["quant_bits"] == profile.default_bits
        assert fact["quant_target"] == profile.name
        sign = profile.weights.mixed_range
        assert fact["quant_sign_mode"] == ("beside" if sign is not None and sign.value == "beside" else "mixed")
        stored = next(s for s in made.integer.synapses if s.name == name)
        assert fact["quant_exponent"] == stored.exponent
        np.testing.assert_array_equal(stored.matrix().toarray(), whole * made.compressed.fmt.lsb)
    assert network.conventions == made.compressed.network.conventions


def other_tool(graph: nir.NIRGraph) -> Callable[[np.ndarray], np.ndarray]:
    """Runs a chain of Linear and LIF nodes: snnTorch where it can read NIR (with nirtorch), else NIR's own equations by
    forward Euler, in float32 as there. Takes (steps, inputs), returns (steps, outputs)."""
    if find_spec("nirtorch") and find_spec("snntorch"):
        import torch
        from snntorch.import_nir import import_from_nir

        net = import_from_nir(graph)

        def by_snntorch(x: np.ndarray) -> np.ndarray:
            state, found = None, []
            with torch.no_grad():
                for step in x:
                    out, state = net(torch.from_numpy(step)[None], state)
                    found.append(out[0].numpy())
            return np.array(found)

        return by_snntorch

    def by_euler(x: np.ndarray) -> np.ndarray:
        name = "input"
        while True:
            (name,) = [b for a, b in graph.edges if a == name]
            node = graph.nodes[name]
            if isinstance(node, nir.Output):
                return x
            if isinstance(node, nir.Linear):
                x = x @ node.weight.T
                continue
            v, found = np.zeros_like(x[0]), []
            beta = (1 - DT / node.tau).astype(np.float32)
            for current in x:
                v = beta * v + (node.r * DT / node.tau).astype(np.float32) * current
                spikes = v > node.v_threshold
                v = np.where(spikes, np.float32(0), v)
                found.append(spikes.astype(np.float32))
            x = np.array(found)

    return by_euler


@pytest.mark.parametrize("target", ["loihi2", "spinnaker2", "tianjic"])
def test_another_tool_runs_the_file_to_the_same_spikes(model, tmp_path, target):
    deploy(model, target, method="rtn", out=tmp_path / target)
    file = tmp_path / target / "model.nir"
    spikes = (np.random.default_rng(1).random((1, 60, 8)) < 0.3).astype(np.float32)
    expected = simulate(read(file, preset="snntorch-nir"), spikes)["output"][0]
    assert expected.sum() > 10
    np.testing.assert_array_equal(other_tool(nir.read(file))(spikes[0]), expected)


def test_a_third_partys_back_end_is_found_asked_and_run(model, tmp_path, monkeypatch):
    """A package that names itself in the entry point group and a profile that lists it: nothing else is needed."""
    theirs = ModuleType("their_backend")
    theirs.refusals = lambda network: [Problem(f"it has {len(network.populations)} layers, we take one",
                                               fix="Use a smaller network")] if theirs.picky else []
    theirs.emit = lambda network, folder: (folder.mkdir(), (folder / "layers.txt").write_text(
        "\n".join(p.name for p in network.populations)))
    real = backends.entry_points

    class Point(EntryPoint):
        def load(self):
            return theirs

    monkeypatch.setattr(backends, "entry_points", lambda group: [*real(group=group), Point("theirs", "x", group)])
    text = profile_text("loihi2").replace("emits: [lava, nir]", "emits: [theirs, nir]").replace(
        "name: loihi2", "name: theirs", 1)
    (tmp_path / "chip.yaml").write_text(text)
    theirs.picky = False
    deploy(model, tmp_path / "chip.yaml", method="rtn", out=tmp_path / "out")
    assert (tmp_path / "out/theirs/layers.txt").read_text() == "a\nb"
    theirs.picky = True
    with pytest.raises(Refused, match="it has 2 layers, we take one"):
        deploy(model, tmp_path / "chip.yaml", method="rtn", out=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_unknown_back_end_is_named_with_those_there_are():
    with pytest.raises(Refused, match=r"unknown back end 'loihi'.*lava, lava-dl, nir"):
        backends.backend("loihi")
