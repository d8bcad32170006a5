"""The emulator against a literal interpreter of the same rules, and against Lava itself: every spike, u and v."""

from __future__ import annotations

from pathlib import Path

import lava_cases
import lava_networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava_driver import run_folders
from loihi_reference import simulate as interpret

from neurocompress.emulation.emulator import emulate
from neurocompress.targets.lava import emit


def drawn(seed: int, samples: int = 2, steps: int = 8):
    rng = np.random.default_rng(seed)
    network = lava_networks.random_network(rng)
    return network, lava_networks.random_spikes(rng, network, samples, steps)


def emulated(network, spikes):
    return emulate(network, spikes, [p.name for p in network.populations], states=True)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_drawn_networks_match_the_literal_interpreter(seed):
    network, spikes = drawn(seed)
    found, expected = emulated(network, spikes), interpret(network, spikes)
    for name, trace in expected.items():
        np.testing.assert_array_equal(found.spikes[name], trace.spikes, err_msg=name)
        np.testing.assert_array_equal(found.u[name], trace.u, err_msg=name)
        np.testing.assert_array_equal(found.v[name], trace.v, err_msg=name)


@pytest.mark.parametrize("name", sorted(lava_cases.CASES))
def test_named_networks_match_the_literal_interpreter(name):
    network, spikes, _ = lava_cases.CASES[name]
    found, expected = emulated(network, spikes), interpret(network, spikes)
    for p, trace in expected.items():
        np.testing.assert_array_equal(found.spikes[p], trace.spikes, err_msg=p)
        np.testing.assert_array_equal(found.v[p], trace.v, err_msg=p)


@pytest.mark.lava
def test_200_drawn_networks_match_lava(lava, tmp_path: Path):
    """Spikes, u and v, aligned and as they leave the chip (unaligned, latency counted), 0 mismatches."""
    jobs = []
    for seed in range(200):
        network, spikes = drawn(1000 + seed)
        emit(network, tmp_path / str(seed))
        jobs.append((network, tmp_path / str(seed), spikes))
    record = [[p.name for p in network.populations] for network, _, _ in jobs]
    runs = run_folders([(folder, spikes) for _, folder, spikes in jobs], record, python=lava, timeout_s=1500.0)
    fired = 0
    for (network, _, spikes), run in zip(jobs, runs, strict=True):
        found = emulated(network, spikes)
        for p in network.populations:
            np.testing.assert_array_equal(run.spikes[p.name], found.spikes[p.name], err_msg=p.name)
            np.testing.assert_array_equal(run.u[p.name], found.u[p.name], err_msg=p.name)
            np.testing.assert_array_equal(run.v[p.name], found.v[p.name], err_msg=p.name)
            for k in range(len(spikes)):  # unaligned: the sample leaves `latency` steps after it entered
                start = k * run.period + p.latency
                np.testing.assert_array_equal(
                    run.stream[p.name][start : start + spikes.shape[1]], found.spikes[p.name][k], err_msg=p.name)
            fired += int((found.spikes[p.name] != 0).sum())
    assert fired > 2000  # silent networks would prove nothing
