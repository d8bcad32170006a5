"""What inspect, check, compress, deploy, report.json and simulate say of the same thing is the same number, and the one
that plain loops over weights and spikes count; tables show no other."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run
from literal_core import cores
from literal_network import literal, paths, trained_numbers, zeros

import neurocompress as nc
from neurocompress.backends import backend
from neurocompress.compression.oneshot import Result
from neurocompress.data import events_to_spikes
from neurocompress.data.spikes import SpikeData, load_spikes
from neurocompress.fit.check import limits_of
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Node, Output, Pool, Scale
from neurocompress.report.inspect import inspect_network
from neurocompress.report.text.compressed import compressed_data
from neurocompress.report.text.tables import USED
from neurocompress.verbs.deploy import Deployment
from neurocompress.verification.measure import measure

CHIPS = ("loihi1", "loihi2", "spinnaker2", "brainscales2", "tianjic")
FORMS = ("dense", "convolutions", "sum", "recurrent", "last Linear", "pools", "product")
SAMPLES, STEPS = 4, 6


def drawn(seed: int) -> Network:
    """A network of one of FORMS; a fifth of its weights is zero."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        w = rng.normal(0.4, 1.0, size=shape) / np.sqrt(np.prod(shape[1:]))
        return np.where(rng.random(shape) < 0.2, 0.0, w).astype(np.float32)

    def bias(n: int) -> np.ndarray | None:
        return None if rng.random() < 0.5 else rng.normal(0, 0.1, n).astype(np.float32)

    def neurons(*shape: int) -> Neuron:
        kind = rng.choice(["IF", "LIF", "LIF"])
        if kind == "IF":
            return Neuron(shape, np.full(shape, 1e3), np.full(shape, 0.6), np.zeros(shape))
        return Neuron(shape, np.full(shape, 8.0), np.full(shape, 0.6), np.zeros(shape), np.full(shape, 8e-3),
                      np.zeros(shape))

    form = FORMS[seed % len(FORMS)]
    nodes: dict[str, Node] = {"input": Input((7,)), "fc1": Linear(weights(9, 7), bias(9)), "a": neurons(9),
                              "fc2": Linear(weights(5, 9), bias(5)), "b": neurons(5), "output": Output((5,))}
    edges = list(pairwise(nodes))
    if form == "sum":  # two ways into b, and one layer that two populations hear
        nodes |= {"c": neurons(9), "skip": Linear(weights(5, 7)), "fc3": Linear(weights(5, 9), bias(5))}
        edges += [("input", "skip"), ("skip", "b"), ("fc1", "c"), ("c", "fc3"), ("fc3", "b")]
    elif form == "recurrent":
        nodes["rec"] = Linear(weights(9, 9))
        edges += [("a", "rec"), ("rec", "a")]
    elif form == "last Linear":
        nodes["last"] = Linear(weights(3, 5), bias(3))
        edges = [e for e in edges if e != ("b", "output")] + [("b", "last"), ("last", "output")]
        nodes["output"] = Output((3,))
    elif form == "product":  # two layers without neurons between
        nodes["between"] = Linear(weights(6, 9), bias(6))
        nodes["fc2"] = Linear(weights(5, 6), bias(5))
        edges = [e for e in edges if e != ("a", "fc2")] + [("a", "between"), ("between", "fc2")]
    elif form in ("convolutions", "pools"):
        groups, stride = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        size = (6 + 2 - 3) // stride + 1
        nodes = {"input": Input((2, 6, 6)), "c1": Conv(weights(4, 2 // groups, 3, 3), bias(4), (stride, stride),
                                                       ((1, 1), (1, 1)), (1, 1), groups),
                 "a": neurons(4, size, size)}
        if form == "pools":
            kind = str(rng.choice(["sum", "average"]))
            nodes |= {"half": Scale(np.asarray(0.5)), "p": Pool(kind, (2, 2), (int(rng.integers(1, 3)), 1),
                                                                ((0, 0), (0, 0)))}
            across, down = size - 1, (size - 2) // nodes["p"].stride[0] + 1
        else:
            across = down = size - 1
            nodes |= {"c2": Conv(weights(3, 4, 2, 2), bias(3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
                      "b": neurons(3, down, across)}
        channels = 4 if form == "pools" else 3
        nodes |= {"flat": Flatten(), "fc": Linear(weights(4, channels * down * across), bias(4)), "z": neurons(4),
                  "output": Output((4,))}
        edges = list(pairwise(nodes))
    rule = Conventions(dt=1e-3, decay=str(rng.choice(["euler", "exponential"])),
                       reset=str(rng.choice(["zero", "subtract"])), fire=str(rng.choice([">", ">="])))
    return Network(nodes, tuple(edges), rule)


def data_of(network: Network, seed: int) -> SpikeData:
    rng = np.random.default_rng(1000 + seed)
    spikes = (rng.random((SAMPLES, STEPS, *network.shapes[network.input])) < 0.4).astype(np.uint8)
    return SpikeData(spikes, None, "drawn")


def operations(network: Network, sent: dict[str, np.ndarray], ones: bool = False) -> dict[str, float]:
    """Synapses that spikes reach, for each target, per sample; sent: by population and input. ones: zeros too."""
    found: dict[str, float] = {}
    for path in paths(network, ones=True) if ones else paths(network):
        spikes = sent[path.source]
        reached = sum(path.fan_out(tuple(map(int, place[2:]))) for place in np.argwhere(spikes))
        found[path.target] = found.get(path.target, 0.0) + reached / len(spikes)
    return found


def weighted(network: Network) -> dict[str, Node]:
    return {n: node for n, node in network.nodes.items() if isinstance(node, (Linear, Conv))}


@pytest.mark.parametrize("seed", range(35))
def test_every_verb_says_the_same_numbers_of_a_drawn_network(seed: int, tmp_path: Path, one_thread: None) -> None:
    network = drawn(seed)
    data, chip = data_of(network, seed), CHIPS[(seed + seed // len(FORMS)) % len(CHIPS)]
    counted = trained_numbers(network)
    scales = sum(math.prod(network.shapes[n]) for n, node in network.nodes.items() if isinstance(node, Scale))
    sent = literal(network, data.spikes) | {network.input: data.spikes}
    file = tmp_path / "n.nir"
    backend("nir").write(network, file)

    # the network itself: inspect, and check before anything is compressed
    model = nc.load(file)
    seen = inspect_network(model)
    assert {n["name"]: n["parameters"] for n in seen["nodes"] if n["name"] in counted} == counted
    there = sum(counted.values()) + scales  # a file holds one for each place
    assert seen["parameters"] == there
    # compress
    sparsity = 0.5 if seed % 2 else 0.0
    small = nc.compress(model, data, method="magnitude" if sparsity else "rtn", sparsity=sparsity, bits=4)
    compress_says(small, network, tmp_path, data, sent, chip)
    # deploy, its report, and what other verbs say of the bundle
    bundle = tmp_path / "b"
    made = nc.deploy(model, chip, data=data, out=bundle, method="magnitude" if sparsity else "rtn", sparsity=sparsity)
    report = json.loads((bundle / "report.json").read_text())
    behind = (report["host"] or {}).get("readout", {}).get("parameters", 0)
    checked = nc.check(model, chip).to_dict()
    for totals in (report["totals"], report["fit"]["totals"], checked["totals"]):
        assert totals["parameters"] + behind == there
    deploy_says(made, report, bundle, network, data, sent, chip)


def compress_says(small: Result, network: Network, folder: Path, data: SpikeData, sent: dict[str, np.ndarray],
                  chip: str, all_of_it: bool = True) -> None:
    small.save(folder / "s.nir")
    written = nc.load(folder / "s.nir")
    said = json.loads(json.dumps(compressed_data(small, measure(small, data), folder / "s.nir"), default=str))
    assert {x["name"] for x in said["layers"]} == set(weighted(written))
    float32 = stored = zero = 0
    for layer in said["layers"]:
        node = written.nodes[layer["name"]]
        assert layer["weights"] == node.weight.size
        assert layer["sparsity"] == pytest.approx(zeros(node) / node.weight.size, abs=1e-15)
        zero, float32 = zero + zeros(node), float32 + 4 * node.weight.size
        kept = node.weight.size - zeros(node)
        stored += -(-min(node.weight.size * layer["bits"], kept * layer["bits"] + node.weight.size) // 8)
    assert said["sparsity"] == pytest.approx(4 * zero / float32, abs=1e-12)
    assert (said["bytes_float32"], said["bytes_estimate"]) == (float32, stored)
    before, after = said["calibration"]["operations"]
    assert before == pytest.approx(sum(operations(network, sent).values()))
    if all_of_it:
        now = literal(written, data.spikes) | {written.input: data.spikes}
        assert after == pytest.approx(sum(operations(written, now).values()))
    in_file = inspect_network(written)["parameters"]
    ends = nc.check(written, chip)
    assert ends.totals["parameters"] + sum(trained_numbers(written).get(n, 0) for n in ends.host) == in_file


def deploy_says(made: Deployment, report: dict, bundle: Path, network: Network, data: SpikeData,
                sent: dict[str, np.ndarray], chip: str) -> None:
    fit, file = report["fit"], nc.load(bundle)
    on_chip = [layer["population"] for layer in report["layers"]]
    # zeros, parameters and neurons, layer by layer, of the file that was written
    for layer in report["layers"]:
        nodes = [file.nodes[n] for n in layer["layers"] if n in weighted(file)]
        size = sum(node.weight.size for node in nodes)
        assert layer["neurons"] == int(np.prod(file.shapes[layer["population"]]))
        assert layer["sparsity"] == pytest.approx(sum(map(zeros, nodes)) / max(1, size))
    for key in ("neurons", "parameters", "memory_float32", "memory"):
        assert report["totals"][key] == fit["totals"][key] == sum(x[key] for x in report["layers"])
        assert [x[key] for x in report["layers"]] == [x[key] for x in fit["layers"]]
    assert report["totals"]["cores"] == fit["cores"] == fit["totals"]["cores"]
    # what lies on each core, and check on the bundle
    used = cores(made.fit)
    for name, share in fit["utilization"].items():
        if name in used:
            assert share == pytest.approx(max(used[name]) / limits_of(made.fit.plan.profile)[name][1]), (name, used)
    assert fit["totals"]["memory"] == sum(x["memory"] for x in fit["layers"])
    again = nc.check(file, chip, bits=report["layers"][0]["bits"]).to_dict()
    behind = sum(trained_numbers(file).get(n, 0) for n in again["readout"]["host"])
    assert again["totals"]["parameters"] + behind == inspect_network(file)["parameters"]
    folded = ("parameters", "memory_float32")  # of the model in the report, of the file that was written here
    for key in ("cores", "fewest_cores", "utilization", "map"):
        assert again[key] == fit[key], key
    for one, other in zip([again["totals"], *again["layers"]], [fit["totals"], *fit["layers"]], strict=True):
        assert {k: v for k, v in one.items() if k not in folded} == {k: v for k, v in other.items() if k not in folded}
    # spikes and operations
    float_sops = operations(network, sent)
    emulated = nc.simulate(bundle, data, engine="emulator", record=on_chip)
    now = {n: emulated.arrays[n] for n in on_chip} | {file.input: data.spikes}
    chip_sops, unmasked = operations(file, now), operations(file, now, ones=True)
    every = {name: np.ones((1, 1, *file.shapes[name])) for name in now}
    synapses = operations(file, every, ones=True)
    for layer in report["layers"]:
        p = layer["population"]
        if p in network.nodes:
            assert layer["operations_before"]["sops_effective"] == pytest.approx(float_sops[p])
        assert layer["operations"]["sops_effective"] == pytest.approx(chip_sops[p])
        assert layer["operations"]["sops_unmasked"] == pytest.approx(unmasked[p])
        assert layer["operations"]["sops_dense"] == synapses[p] * STEPS
        assert layer["neuron_updates"] == layer["neurons"] * STEPS
        if layer["rate"] is not None:
            assert layer["rate"] == pytest.approx(np.count_nonzero(now[p]) / now[p].size) == emulated.rates[p]
            assert layer["rate_before"] == pytest.approx(np.count_nonzero(sent[p]) / sent[p].size)
            assert layer["dead"] == int((now[p].reshape(-1, layer["neurons"]) == 0).all(axis=0).sum())


def test_tables_and_json_of_the_digits_show_the_counted_numbers(tmp_path: Path, run: Run) -> None:
    network, few, bundle = nc.load(DIGITS), tmp_path / "few.npz", tmp_path / "b"
    load_spikes(EXAMPLE / "digits_test.npz").first(4).save(few)
    spikes = np.load(few)["spikes"]
    sent = literal(network, spikes) | {network.input: spikes}
    table = run("deploy", DIGITS, "--target", "loihi1", "--data", few, "--method", "rtn", "--out", bundle).out
    report = json.loads((bundle / "report.json").read_text())
    file, count = nc.load(bundle), report["totals"]
    emulated = nc.simulate(bundle, few, engine="emulator", record=network.populations)
    now = {n: emulated.arrays[n] for n in network.populations} | {file.input: spikes}
    before, after = (sum(operations(n, s).values()) for n, s in ((network, sent), (file, now)))
    assert (count["sops_effective_before"], count["sops_effective"]) == (pytest.approx(before), pytest.approx(after))
    assert count["parameters"] == sum(trained_numbers(network).values())
    for layer, node in (("lif1", "fc1"), ("lif2", "fc2")):
        of_zeros = f"{100 * zeros(network.nodes[node]) / network.nodes[node].weight.size:.1f} % → " \
                   f"{100 * zeros(file.nodes[node]) / file.nodes[node].weight.size:.1f} %"
        assert any(of_zeros in line and f"{trained_numbers(network)[node]:,}" in line for line in table.splitlines()
                   if layer in line), of_zeros
    assert f"{before:,.0f} → {after:,.0f}" in table
    fit = nc.check(bundle, "loihi1")
    used = cores(fit)
    said = [f"{name} {100 * max(used[key]) / limits_of(fit.plan.profile)[key][1]:.1f} %" for key, name in USED.items()]
    text = run("check", bundle, "--target", "loihi1").out
    for shown in (table, text):
        (line,) = [line for line in shown.splitlines() if line.startswith("fullest core: ")]
        assert sorted(line.removeprefix("fullest core: ").split(", ")) == sorted(said)


@pytest.mark.shared
def test_the_nmnist_network_has_the_counted_numbers(shared: Path, tmp_path: Path) -> None:
    network = nc.load(shared / "models/nir_paper/cnn/cnn_sinabs.nir", preset="sinabs")
    events = events_to_spikes(shared / "data/nmnist_800.npz", 1e-3, 300, binary=True)
    data = SpikeData(events.spikes[:1, 20:40], None, "20 steps")
    sent = literal(network, data.spikes) | {network.input: data.spikes}
    fit = nc.check(network, "loihi1")
    assert fit.totals["parameters"] == sum(trained_numbers(network).values()) == network.parameters
    used = cores(fit)
    for name, (_, limit) in limits_of(fit.plan.profile).items():
        assert fit.utilization[name] == pytest.approx(max(used[name]) / limit), name
    small = nc.compress(network, data, method="magnitude", sparsity=0.8, bits=4, distill=0)
    compress_says(small, network, tmp_path, data, sent, "loihi1", all_of_it=False)
