"""The shipped digits example is what it says: LIF neurons under forward Euler, at least 95 % of held-out digits."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neurocompress.data import load_spikes
from neurocompress.frontends.nir import read
from neurocompress.network.conventions import Conventions

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DT = 1e-3


def run(graph: nir.NIRGraph, spikes: np.ndarray) -> np.ndarray:
    """NIR's equations under forward Euler, float64: output spikes (samples, steps, 10)."""
    x = spikes.astype(np.float64)
    for weights, neurons in (("fc1", "lif1"), ("fc2", "lif2")):
        affine, lif = graph.nodes[weights], graph.nodes[neurons]
        current = x @ np.asarray(affine.weight, np.float64).T + affine.bias
        v = np.zeros_like(current[:, 0])
        x = np.empty_like(current)
        for t in range(current.shape[1]):
            v = v + DT / lif.tau * (lif.v_leak - v + lif.r * current[:, t])
            x[:, t] = v > lif.v_threshold
            v[x[:, t] > 0] = 0
    return x


def test_the_shipped_network_recognizes_at_least_95_percent_of_the_shipped_test_digits() -> None:
    graph = nir.read(EXAMPLES / "digits" / "digits.nir")
    data = load_spikes(EXAMPLES / "digits" / "digits_test.npz", (64,), need_labels=True)
    assert data.spikes.shape == (450, 32, 64)
    assert data.spikes.dtype == np.uint8
    assert data.spikes.max() == 1
    counts = run(graph, data.spikes).sum(axis=1)
    assert float((counts.argmax(axis=1) == data.labels).mean()) >= 0.95


def test_calibration_digits_are_none_of_the_test_digits() -> None:
    """Spike counts tell the images back: half a spike per step at full brightness, plus or minus one."""
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=450, stratify=labels, random_state=0)
    for name, wanted, classes in (("calibration", train[:128], train_labels[:128]), ("test", test, test_labels)):
        data = load_spikes(EXAMPLES / "digits" / f"digits_{name}.npz", (64,), need_labels=True)
        assert np.abs(data.spikes.sum(axis=1, dtype=float) - wanted).max() < 1
        np.testing.assert_array_equal(data.labels, classes)
        assert set(classes) == set(range(10))


def test_nothing_of_the_shipped_network_is_left_to_assume() -> None:
    network = read(EXAMPLES / "digits" / "digits.nir")
    assert network.assumed == ()
    assert network.conventions == Conventions(dt=DT, decay="euler", reset="zero", fire=">")
    assert not [note for note in network.notes if "assumed" in note.lower()]


def test_the_shipped_files_are_small() -> None:
    assert sum(p.stat().st_size for p in (EXAMPLES / "digits").iterdir()) < 1.5e6


def test_the_script_writes_a_network_that_computes_what_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_digits.py", "--out", str(tmp_path), "--epochs", "1"])
    runpy.run_path(str(EXAMPLES / "train_digits.py"), run_name="__main__")
    said = float(capsys.readouterr().out.split("test accuracy ")[1].split()[0])
    data = load_spikes(tmp_path / "digits_test.npz", (64,), need_labels=True)
    counts = run(nir.read(tmp_path / "digits.nir"), data.spikes).sum(axis=1)
    # float32 against float64: a sample on the edge may fall to the other side
    assert abs(100 * float((counts.argmax(axis=1) == data.labels).mean()) - said) < 0.5
