"""The paper's tables again: a network that is right by design, on recordings in N-MNIST's format."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paper import main
from benchmarks.paper_data import DATASETS, stratified
from benchmarks.paper_train import train
from benchmarks.published import TABLES
from neurocompress import load
from neurocompress.simulation.float import simulate

ROOT = Path(__file__).resolve().parents[1]


def paper(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.paper", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}, timeout=300, check=False)


def recording(digit: int, rng: np.random.Generator) -> bytes:
    """Events of 40 bits, about ten in every millisecond, in the first 6 rows of the digit's three columns."""
    n = 3000
    return b"".join(
        struct.pack(">Q", int(x) << 32 | int(y) << 24 | int(p) << 23 | int(t))[3:]
        for x, y, p, t in zip(rng.integers(3 * digit, 3 * digit + 3, n), rng.integers(0, 6, n),
                              rng.integers(0, 2, n), np.sort(rng.integers(0, 300_000, n)), strict=True))


@pytest.fixture(scope="module")
def nmnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training and two test recordings of each digit; two of the 20 for tests lie in the wrong folder."""
    folder, rng = tmp_path_factory.mktemp("nmnist"), np.random.default_rng(0)
    for part, wrong in (("Train", 0), ("Test", 2)):
        for i in range(20):
            shown = i % 10
            named = (shown + (i < wrong)) % 10
            (folder / part / str(named)).mkdir(parents=True, exist_ok=True)
            (folder / part / str(named) / f"{i:05}.bin").write_bytes(recording(shown, rng))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten neurons, each fed by all pixels of its digit's columns with one and the same weight, and ten that follow."""
    first = np.zeros((10, 2, 34, 34), np.float32)
    for digit in range(10):
        first[digit, :, :, 3 * digit : 3 * digit + 3] = 4.0
    lif = {"tau": np.full(10, 6e-3), "r": np.ones(10), "v_leak": np.zeros(10), "v_threshold": np.ones(10)}
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2, 34, 34])}),
        "flatten": nir.Flatten(input_type={"input": np.array([2, 34, 34])}, start_dim=0, end_dim=-1),
        "fc1": nir.Linear(first.reshape(10, -1)), "lif1": nir.LIF(**lif),
        "fc2": nir.Linear(4 * np.eye(10, dtype=np.float32)), "lif2": nir.LIF(**lif),
        "output": nir.Output(output_type={"output": np.array([10])}),
    }
    path = tmp_path_factory.mktemp("model") / "tiny.nir"
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt": 3e-3}))
    return path


def rows(output: str) -> dict[str, list[str]]:
    """Cells of the printed table by the first one of their row."""
    lines = [line.strip("│ ").split("│") for line in output.splitlines()]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if len(cells) > 1}


def test_nmnist_quantization_from_the_command_line(nmnist: Path, model: Path) -> None:
    done = paper("nmnist-quantization", "--data", nmnist, "--model", model, "--calibration", 20, "--seeds", 2,
                 "--points", 2)
    assert done.returncode == 0, done.stderr
    assert "Table 2: N-MNIST, 2FC, quantization" in done.stdout
    found = rows(done.stdout)
    assert found["before"] == ["90.00 (98.31)"] * 4  # 18 of 20 recordings lie in their own folder
    # weights that are 0 or the largest are on every grid already
    assert found["2"] == ["90.00 (20.34)", "90.00 ± 0.00 (64.29)", "90.00 ± 0.00 (92.40)", "90.00 ± 0.00"]
    assert "4" not in found
    assert "rtn at 2 bit, seed 0: 90.00 %" in done.stderr
    assert "rtn at 2 bit, seed 1" not in done.stderr  # needs no calibration data


def test_nmnist_pruning_keeps_what_is_needed(nmnist: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nmnist-pruning", "--data", str(nmnist), "--model", str(model), "--calibration", "10", "--seeds", "1",
                 "--samples", "20", "--points", "80", "98"]) == 0
    found = rows(capsys.readouterr().out)
    assert list(found)[-3:] == ["before", "80", "98"]
    assert found["80"][0] == "90.00 (65.39)"  # nine tenths of the weights are zero from the start
    assert found["98"][2].endswith("(93.97)")
    for row in list(found.values())[-3:]:
        assert len(row) == 4


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Ten training and ten test images, and a network whose first 64 neurons fire in every step."""
    folder, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(b"".join(
            bytes([0, 7 * i]) + rng.integers(0, 256, 3072, dtype=np.uint8).tobytes() for i in range(10)))

    def lif(*shape: int) -> nir.LIF:
        return nir.LIF(tau=np.full(shape, 2e-3), r=np.ones(shape), v_leak=np.zeros(shape), v_threshold=np.ones(shape))

    weight = rng.normal(0, 0.01, (4, 3, 8, 8)).astype(np.float32)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3, 32, 32])}),
        "conv": nir.Conv2d((32, 32), weight, 8, 0, 1, 1, np.full(4, 9, np.float32)), "lif1": lif(4, 4, 4),
        "flatten": nir.Flatten(input_type={"input": np.array([4, 4, 4])}, start_dim=0, end_dim=-1),
        "fc": nir.Linear(rng.normal(0, 0.5, (100, 64)).astype(np.float32)), "lif2": lif(100),
        "output": nir.Output(output_type={"output": np.array([100])}),
    }
    nir.write(folder / "model.nir", nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt": 1e-3}))
    return str(folder), str(folder / "model.nir")


def test_operations_per_image(cifar: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cifar100-operations", "--data", cifar[0], "--model", cifar[1], "--calibration", "10", "--seeds", "1",
                 ]) == 0
    found = rows(capsys.readouterr().out)
    # 5 steps of 3072 values into 4 channels each, and of 64 spikes into 100 neurons: 93,440
    assert found["before"][2] == "0.09 (107.95)"
    assert found["89.91"][2].endswith("(35.85)")
    assert float(found["89.91"][2].split()[0]) < 0.05


def test_finetuning_on_the_calibration_samples(cifar: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cifar100-finetuning", "--data", cifar[0], "--model", cifar[1], "--calibration", "10", "--seeds", "1",
                 "--points", "68.3"]) == 0
    out = capsys.readouterr()
    assert len(rows(out.out)["68.3"]) == 4
    assert rows(out.out)["68.3"][1].endswith("(71.10)")
    assert out.err.count("fine-tun") >= 4  # its name and its note, of both methods


def test_a_network_is_trained_on_the_folder(nmnist: Path, tmp_path: Path) -> None:
    dataset = DATASETS["nmnist"]
    torch.set_num_threads(1)
    train("nmnist", dataset, dataset.read(nmnist, True), 120, tmp_path / "made.nir")
    data = dataset.spikes(dataset.read(nmnist, True), np.arange(20))
    counts = simulate(load(tmp_path / "made.nir"), data.spikes)["output"].sum(1)
    assert np.count_nonzero(counts.argmax(1) == data.labels) >= 18  # of its own 20 recordings


@pytest.mark.parametrize(("arguments", "said"), [
    (("nmnist-pruning", "--data", "none", "--model", "MODEL"), "no folder 'Train'"),
    (("nmnist-pruning", "--data", "DATA", "--model", "none.nir"), "none.nir"),
    (("nmnist-pruning", "--data", "DATA", "--model", "MODEL", "--frames", "events"), "--frames is 'events'"),
    (("nmnist-pruning", "--data", "DATA", "--model", "MODEL", "--seeds", "0"), "count from 1"),
    (("nmnist-pruning", "--data", "DATA", "--model", "MODEL", "--points", "90", "1"), "no points 1"),
    (("cifar10dvs-pruning", "--data", "DATA", "--model", "MODEL"), r"CIFAR10-DVS has \(2, 64, 64\) and 10 classes"),
    (("sew-resnet18-pruning", "--data", "DATA", "--train", "1"), "too large to be trained here.*--model FILE.nir"),
    (("asldvs-pruning", "--data", "DATA"), "no trained 4Conv.*--train EPOCHS"),
    (("nmnist-pruning", "--data", "DATA", "--model", "none/a.nir", "--train", "1"), "none/a.nir: it can not be"),
    (("sdt-pruning", "--data", "DATA", "--model", "MODEL"), "NIR has no node"),
])
def test_what_can_not_be_measured_is_said(
    nmnist: Path, model: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main([str({"DATA": nmnist, "MODEL": model}.get(a, a)) for a in arguments]) == 2
    assert re.search(said, capsys.readouterr().err)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_calibration_draws_the_same_number_of_every_class(labels: list[int], size: int, seed: int) -> None:
    chosen = stratified(np.array(labels), size, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(size, len(labels))
    there = {c: labels.count(c) for c in labels}
    drawn = {c: sum(labels[i] == c for i in chosen) for c in there}
    fullest = max(drawn.values())
    assert all(n == there[c] or n >= fullest - 1 for c, n in drawn.items())
    np.testing.assert_array_equal(chosen, stratified(np.array(labels), size, seed))


def test_published_figures_are_complete() -> None:
    for name, table in TABLES.items():
        assert list(table.points) == sorted(table.points, reverse=table.kind == "quantization"), name
        for method, row in table.accuracy.items():
            assert method in table.methods, name
            assert len(row) == len(table.points), name
            assert all(v is not None and 0 < v <= 100 for v in row), name
        assert len(table.deviation) in (0, len(table.points))
        assert len(table.epochs) in (0, len(table.points))
        assert len(table.operations) in (0, len(table.points) + 1)
    assert {t.number for t in TABLES.values()} == set("2345678")


@pytest.mark.shared
def test_published_figures_are_those_of_the_text(shared: Path) -> None:
    text = (shared / "reference" / "sbc-paper.txt").read_text()
    numbers = set(text.replace("(±", " ").replace(")", " ").replace("(", " ").split())
    for name, table in TABLES.items():
        for value in (table.base, *(v for row in table.accuracy.values() for v in row)):
            assert f"{value:.2f}" in numbers or f"{value:g}" in numbers, (name, value)
