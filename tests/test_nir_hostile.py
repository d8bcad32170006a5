"""Hostile NIR files: nothing is run, nothing outside is read, nothing is unpacked without bound, and no file hangs."""

from __future__ import annotations

import os
import pickle
import random
import struct
from contextlib import suppress
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.frontends.nir_conventions import KEY
from neurocompress.network.graph import Network


@pytest.fixture
def good(tmp_path: Path) -> Path:
    inner = nir.NIRGraph.from_list(nir.LIF(np.full(2, 0.02), np.ones(2), np.zeros(2), np.ones(2)))
    nodes = {"in": nir.Input(np.array([2])), "fc": nir.Affine(np.eye(2), np.zeros(2)), "sub": inner,
             "out": nir.Output(np.array([2]))}
    edges = [("in", "fc"), ("fc", "sub"), ("sub", "out")]
    nir.write(tmp_path / "good.nir", nir.NIRGraph(nodes, edges, metadata={"by": "me"}))
    read(tmp_path / "good.nir")
    return tmp_path / "good.nir"


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(Refused) as refused:
        read(path, **options)  # type: ignore[arg-type]
    assert all(problem.fix for problem in refused.value.problems)
    return str(refused.value)


def test_what_is_no_hdf5_file_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.nir"
    assert "does not exist" in refusal(path)
    assert "is a folder" in refusal(tmp_path)
    refusal("null\0byte.nir")
    for content, expected in ((b"", "is an empty file"),
                              (b"hello, no model", "begins 'hello, no model', not a NIR file"),
                              (b"\x89HDF\r\n\x1a\n", "only the beginning of an HDF5 file"),
                              (b"\x8dHDF\r\n\x1a\n" + bytes(90), "is not an HDF5 file"),
                              (pickle.dumps([1]), "never opened"),
                              (b"PK\x03\x04" + bytes(99), "only the beginning of a .npz or PyTorch file")):
        path.write_bytes(content)
        assert expected in refusal(path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")


def test_hdf5_that_is_no_nir(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.nir", "w") as file:
        file["data"] = np.ones(3)
    assert "is not a NIR file" in refusal(tmp_path / "x.nir")
    nir.write(tmp_path / "y.nir", nir.Linear(np.ones((2, 2))))
    assert "holds a single Linear, not a NIRGraph" in refusal(tmp_path / "y.nir")


def test_declared_sizes_are_refused_before_they_are_read(good: Path) -> None:
    with h5py.File(good, "r+") as file:
        del file["node/nodes/fc/weight"]
        file["node/nodes/fc"].create_dataset("weight", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")
    assert "'/node/nodes/fc/weight': declares 1099511627776 values, 4398046511104 bytes of memory" in refusal(good)


def test_a_packed_bomb_is_refused(good: Path) -> None:
    with h5py.File(good, "r+") as file:
        del file["node/nodes/fc/weight"]
        file["node/nodes/fc"].create_dataset("weight", (2**14, 2**14), "f4", chunks=(512, 512), compression="gzip")
    assert f"in a file of {good.stat().st_size} bytes (at most {2**28})" in refusal(good)


def test_nothing_outside_the_file_is_read(good: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["weight"] = np.eye(2)
    (tmp_path / "raw").write_bytes(np.eye(2).tobytes())
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "weight", (2, 2))
    content = good.read_bytes()
    for attack in ("external link", "soft link", "virtual", "external storage"):
        good.write_bytes(content)
        with h5py.File(good, "r+") as file:
            fc = file["node/nodes/fc"]
            del fc["weight"]
            if attack == "external link":
                fc["weight"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "weight")
            elif attack == "soft link":
                fc["weight"] = h5py.SoftLink("/node/nodes/fc")
            elif attack == "virtual":
                fc.create_virtual_dataset("weight", layout)
            else:
                fc.create_dataset("weight", (2, 2), "f8", external=[(str(tmp_path / "raw"), 0, 32)])
        assert ("is a link" if "link" in attack else "keeps its data in another file") in refusal(good), attack


def test_groups_that_contain_themselves_end(good: Path) -> None:
    content = good.read_bytes()
    with h5py.File(good, "r+") as file:
        file["node/nodes/sub/nodes/loop"] = file["node"]
    assert "is the same object under a second name" in refusal(good)
    good.write_bytes(content)
    with h5py.File(good, "r+") as file:  # each level holds the next one twice: 2**40 objects in a small file
        at = file["node/nodes"]
        for _ in range(40):
            at["a"] = at.create_group("b")
            at = at["a"]
    assert "is the same object under a second name" in refusal(good)
    good.write_bytes(content)
    with h5py.File(good, "r+") as file:
        file.create_group("node/nodes/" + "a/" * 60)
    assert "nest deeper than 48 levels" in refusal(good)


def test_a_heap_that_sends_libhdf5_in_circles_is_refused(good: Path) -> None:
    content = bytearray(good.read_bytes())
    heap = content.index(b"GCOL")
    for size in (2**64 - 16, 2**64 - 1, 2**40):
        struct.pack_into("<Q", content, heap + 24, size)
        good.write_bytes(content)
        assert "is damaged: its text does not add up" in refusal(good)


def test_text_longer_than_the_file_is_refused(good: Path) -> None:
    with h5py.File(good) as file:
        start = file["node/type"].id.get_offset()
    content = bytearray(good.read_bytes())
    struct.pack_into("<I", content, start, 2**31)
    good.write_bytes(content)
    assert "declares text longer than the file" in refusal(good)


def test_names_that_can_not_be_printed_are_refused(good: Path) -> None:
    with h5py.File(good, "r+") as file:
        file["node/nodes/\x1b[31mred"] = 1
    assert "can not be printed" in refusal(good)


def test_strange_metadata(good: Path) -> None:
    for text in ("{", "[1]", '{"reset": "soft"}', '{"dt": -1}', '{"dt": NaN}', '{"synaptic_delay": -1}',
                 '{"v_floor": "yes"}', '{"ignore": "r"}', '{"ignore": [["r"]]}', '{"eval": "1"}', "[" * 100_000,
                 '{"reset": ["zero"]}'):
        with h5py.File(good, "r+") as file:
            file["node/metadata"].pop(KEY, None)
            file[f"node/metadata/{KEY}"] = text
        refusal(good)


def test_wild_numbers(good: Path) -> None:
    content = good.read_bytes()
    for place, value in (("in/shape", np.array([2**62, 2**62])), ("in/shape", np.array([-(2**63)])),
                         ("in/shape", np.array([2**31 - 1])), ("in/shape", np.ones(40, int)),
                         ("in/shape", np.array([2**64 - 1], np.uint64))):
        good.write_bytes(content)
        with h5py.File(good, "r+") as file:
            del file[f"node/nodes/{place}"]
            file[f"node/nodes/{place}"] = value
        refusal(good)


@pytest.mark.parametrize("seed", range(8))
def test_truncated_or_flipped_files_give_a_network_or_a_refusal(good: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = good.read_bytes()
    alive = [i for i, byte in enumerate(content) if byte]
    for turn in range(100):
        damaged = bytearray(content)
        if turn % 5 == 0:
            del damaged[rng.randrange(len(damaged)):]
        for _ in range(rng.choice((1, 1, 2, 4, 16)) if damaged else 0):
            at = min(max(rng.choice(alive) + rng.randrange(-8, 9), 0), len(damaged) - 1)
            damaged[at] = rng.choice((0, 255, rng.randrange(256), 1 << rng.randrange(8)))
        good.write_bytes(damaged)
        with suppress(Refused):
            assert isinstance(read(good), Network)


def test_a_file_whose_writing_was_cut_short_before_its_first_node_is_known_as_that(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cut.nir", "w") as file:
        file.create_group("node")
        file["version"] = "1.0.8"
    with pytest.raises(Refused, match="'node' is empty: writing it was cut short"):
        read(tmp_path / "cut.nir")


@pytest.mark.parametrize(("field", "value"), [
    ("shape", np.zeros((3, 0), dtype=np.int64)), ("shape", np.zeros((0, 2), dtype=np.float16)),
    ("input_shape", np.zeros((2, 0))), ("stride", np.zeros((1, 0), dtype=np.int8))])
def test_empty_lists_of_several_axes_are_refused(tmp_path: Path, field: str, value: np.ndarray) -> None:
    conv = nir.Conv2d((4, 4), np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.zeros(1))
    nir.write(tmp_path / "x.nir", nir.NIRGraph.from_list(nir.Input(np.array([1, 4, 4])), conv))
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        node = next(file["node/nodes"][n] for n in file["node/nodes"] if field in file["node/nodes"][n])
        del node[field]
        node[field] = value
    assert f"'{field}' holds {value.dtype} values of shape {value.shape}" in refusal(tmp_path / "x.nir")


@pytest.mark.filterwarnings("error")
def test_an_empty_list_of_small_floats_is_none(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", nir.NIRGraph.from_list(nir.Input(np.array([2])), nir.Linear(np.eye(2))))
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        nodes = file["node/nodes"]
        name = next(n for n in nodes if bytes(nodes[n]["type"][()]) == b"Output")
        del nodes[name]["shape"]
        nodes[name]["shape"] = np.zeros(0, dtype=np.float16)
    assert isinstance(read(tmp_path / "x.nir"), Network)
