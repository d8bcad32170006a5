"""Lava computes every spike, u and v exactly as the literal reference does."""

from __future__ import annotations

import numpy as np
import pytest
from lava_cases import CASES
from lava_driver import run_folders
from lava_networks import random_network, random_spikes
from loihi_reference import simulate

from neurocompress.targets.lava import emit, refusals
from neurocompress.targets.lava.processes import connection_process, is_native

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module")
def runs(lava, tmp_path_factory):
    """Every case, emitted and run by Lava in one go: name -> LavaRun."""
    folder = tmp_path_factory.mktemp("cases")
    jobs, record = [], []
    for i, (net, x, _) in enumerate(CASES.values()):
        emit(net, folder / str(i))
        jobs.append((folder / str(i), x))
        record.append([p.name for p in net.populations])
    return dict(zip(CASES, run_folders(jobs, record), strict=True))


def assert_equal(net, x, run):
    """Spikes, u and v of every population agree in every sample, step and neuron; so does the stream."""
    expected = simulate(net, x)
    for p in net.populations:
        for name, got, want in (("spikes", run.spikes, expected[p.name].spikes), ("u", run.u, expected[p.name].u),
                                ("v", run.v, expected[p.name].v)):
            np.testing.assert_array_equal(got[p.name], want, err_msg=f"{name} of {p.name}")
        for sample in range(len(x)):
            start = sample * run.period + p.latency
            np.testing.assert_array_equal(run.stream[p.name][start:start + x.shape[1]],
                                          expected[p.name].spikes[sample], err_msg=f"stream of {p.name}")
    return expected


@pytest.mark.parametrize("name", CASES)
def test_lava_agrees_with_the_reference(name, runs):
    net, x, used = CASES[name]
    made = {connection_process(net, s) for s in net.synapses}
    made |= {"LIFReset" if is_native(net, p) else "Neurons" for p in net.populations}
    assert used <= made
    expected = assert_equal(net, x, runs[name])
    assert expected[net.output].spikes.any() or name == "u wraps and v is clipped"


def test_what_one_sample_does_depends_on_no_other(runs):
    """The recurrent case, whose last spikes are on their way when the next sample begins."""
    net, x, _ = CASES["a recurrent layer forgets between samples"]
    alone = [simulate(net, x[i:i + 1])["a"].spikes[0] for i in range(len(x))]
    np.testing.assert_array_equal(runs["a recurrent layer forgets between samples"].spikes["a"], alone)


def test_unrolled_convolutions_do_the_same(lava, tmp_path):
    net, x, _ = CASES["convolution with everything different on both axes"]
    emit(net, tmp_path / "lava", convolutions="Sparse")
    assert "Conv" not in (tmp_path / "lava" / "program.py").read_text()
    assert_equal(net, x, run_folders([(tmp_path / "lava", x)], [["a"]])[0])


def test_random_networks_agree_with_the_reference(lava, tmp_path):
    """Networks that mix everything; most of their populations must be alive for this to prove anything."""
    nets, jobs = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        net = random_network(rng)
        assert refusals(net) == []
        x = random_spikes(rng, net, samples=int(rng.integers(1, 4)), steps=int(rng.integers(1, 9)))
        emit(net, tmp_path / str(seed))
        nets.append(net)
        jobs.append((tmp_path / str(seed), x))
    alive = total = 0
    for net, (_, x), run in zip(nets, jobs, run_folders(jobs, [[p.name for p in n.populations] for n in nets]),
                                strict=True):
        expected = assert_equal(net, x, run)
        alive += sum(trace.spikes.any() for trace in expected.values())
        total += len(expected)
    assert alive > 0.7 * total
