"""Real files are read however well they pack, memory stays bounded, and small files that unpack to much are refused."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from neurocompress.data import arrays
from neurocompress.data.arrays import read_arrays, save_arrays
from neurocompress.data.spikes import load_spikes
from neurocompress.errors import Refused
from neurocompress.free_memory import free_memory
from neurocompress.frontends import nir_file

GIB = 2**30


def frames(shared: Path, samples: int) -> np.ndarray:
    """N-MNIST recordings in frames of 1 ms, (samples, 300, 2, 34, 34), 0 or 1."""
    with np.load(shared / "data" / "nmnist_800.npz") as events:
        found = np.zeros((samples, 300, 2, 34, 34), np.float32)
        for k in range(samples):
            a, b = events["offsets"][k : k + 2]
            t = np.cumsum(events["dt_us"][a:b].astype(np.int64)) // 1000
            kept = t < 300
            found[k, t[kept], events["p"][a:b][kept], events["y"][a:b][kept], events["x"][a:b][kept]] = 1
    return found


@pytest.mark.shared
def test_real_spikes_that_pack_far_beyond_128_to_1_are_read(
        shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sizes a twentieth of the real ones, so that a test can hold them: 0.2 MiB is 'small', 26 MiB its bound."""
    monkeypatch.setattr(arrays, "SMALL", arrays.SMALL // 20)
    monkeypatch.setattr(arrays, "SMALL_BYTES", arrays.SMALL_BYTES // 20)
    spikes = frames(shared, 20)
    np.savez_compressed(tmp_path / "real.npz", spikes=spikes)
    size = os.path.getsize(tmp_path / "real.npz")
    assert size > arrays.SMALL
    assert spikes.nbytes / size > 200
    assert spikes.nbytes > arrays.SMALL_BYTES
    np.testing.assert_array_equal(load_spikes(tmp_path / "real.npz", (2, 34, 34)).spikes, spikes)


def test_a_small_file_unpacks_to_half_a_gibibyte_at_most(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", spikes=np.zeros((1, 600, 2**20), np.uint8))
    assert os.path.getsize(tmp_path / "bomb.npz") < arrays.SMALL
    with pytest.raises(Refused, match=r"at most 0.5 GiB are read.*write without compression \(numpy.savez\)"):
        read_arrays(tmp_path / "bomb.npz")


def test_limits_by_size() -> None:
    assert [arrays.memory_limit(size) for size in (0, 4 * 2**20 - 1, 4 * 2**20, 100 * GIB)] == [
        GIB // 2, GIB // 2, 8 * GIB, 8 * GIB]
    assert [nir_file.memory_limit(size) for size in (0, 4 * 2**20 - 1, 4 * 2**20, 100 * GIB)] == [
        GIB // 4, GIB // 4, 4 * GIB, 4 * GIB]


def test_what_does_not_fit_into_free_memory_is_refused_before_it_is_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", spikes=np.zeros((1, 2, 2**20), np.uint8))
    monkeypatch.setattr(arrays, "free_memory", lambda: 2**20)
    with pytest.raises(Refused, match=r"and 0\.0 GiB of memory are free\. Store fewer samples"):
        read_arrays(tmp_path / "a.npz")
    monkeypatch.setattr(arrays, "free_memory", lambda: None)  # unknown: it is tried
    assert read_arrays(tmp_path / "a.npz")["spikes"].size == 2**21


def test_a_network_of_which_next_to_nothing_is_left_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8000 weights of two million: more than 64 to 1 once packed. Sizes a 256th of the real ones."""
    monkeypatch.setattr(nir_file, "SMALL", 2**14)
    monkeypatch.setattr(nir_file, "SMALL_BYTES", 2**20)
    weight = np.zeros((1024, 2048), np.float32)
    rng = np.random.default_rng(0)
    weight.flat[rng.choice(weight.size, 8000, replace=False)] = rng.normal(size=8000)
    graph = nir.NIRGraph({"i": nir.Input({"input": np.array([2048])}), "fc": nir.Linear(weight),
                          "o": nir.Output({"output": np.array([1024])})}, [("i", "fc"), ("fc", "o")])
    nir.write(tmp_path / "n.nir", graph, compression="gzip")
    size = os.path.getsize(tmp_path / "n.nir")
    assert nir_file.SMALL < size < weight.nbytes / 64
    found = nir_file.load(tmp_path / "n.nir")
    np.testing.assert_array_equal(found["node"]["nodes"]["fc"]["weight"], weight)
    monkeypatch.setattr(nir_file, "free_memory", lambda: 2**20)
    with pytest.raises(Refused, match=f"and {2**20} are free. Use a machine with more memory"):
        nir_file.load(tmp_path / "n.nir")


def test_a_hole_in_a_large_file_is_refused_by_the_memory_there_is(tmp_path: Path) -> None:
    nir.write(tmp_path / "n.nir", nir.NIRGraph({"i": nir.Input({"input": np.array([2])}),
                                               "o": nir.Output({"output": np.array([2])})}, [("i", "o")]))
    with h5py.File(tmp_path / "n.nir", "r+") as file:
        file["filler"] = np.random.default_rng(0).integers(0, 255, 5 * 2**20, np.uint8)
        file.create_dataset("hole", (2**20, 2**20), "f4", chunks=(2**10, 2**20), compression="gzip")
    with pytest.raises(Refused, match=rf"declares {2**40} values.*\(at most {4 * GIB}\)"):
        nir_file.load(tmp_path / "n.nir")


def test_numbers_of_the_other_byte_order_are_read_as_they_are_meant(tmp_path: Path) -> None:
    for dtype in (">f8", ">i2", ">u4", "<f4", "?"):
        values = np.arange(6).reshape(1, 2, 3).astype(dtype)
        np.savez_compressed(tmp_path / "a.npz", values=values)
        found = read_arrays(tmp_path / "a.npz")["values"]
        np.testing.assert_array_equal(found, values)
        assert found.dtype.isnative


def test_what_is_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SMALL_BYTES", 2**16)
    save_arrays(tmp_path / "a.npz", {"a": np.zeros(2**23, np.uint8)})
    assert read_arrays(tmp_path / "a.npz")["a"].size == 2**23


GROUP_2 = {"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 100000\n"}
GROUP_1 = {"memory/memory.limit_in_bytes": "1000000", "memory/memory.usage_in_bytes": "900000",
           "memory/memory.stat": "cache 5\ntotal_inactive_file 1000\n"}


@pytest.mark.parametrize(("group", "free"), [
    ({}, 2048 * 1024), (GROUP_2, 400_000), (GROUP_1, 101_000), (GROUP_2 | {"memory.max": "max"}, 2048 * 1024)])
def test_free_memory_is_that_of_the_machine_or_of_its_container(group: dict[str, str], free: int, tmp_path: Path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9999 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n")
    for name, text in group.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_memory(tmp_path) == free


def test_a_system_that_does_not_say_is_not_asked_again(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
