"""A file that is something else than it was given as is recognised for what it is, and the sentence names the fix."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cli_runner import DIGITS, EXAMPLE, Run
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.data.events import read_recording
from neurocompress.errors import Refused
from neurocompress.files.file_kinds import kind_of

TEST = EXAMPLE / "digits_test.npz"
CUT = f"it holds {DIGITS.stat().st_size - 1} of {DIGITS.stat().st_size} bytes"
POINTER = (b"version https://git-lfs.github.com/spec/v1\n"
           b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 93528\n")


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return stream.getvalue()


def saved(value: object, **how: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3, 64)))
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(DIGITS, "digits.nir")
    return stream.getvalue()


def newest_hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver="latest") as file:
        file["x"] = np.arange(9999)
    return stream.getvalue()


#: Content, what it is as a network, what it is as spikes (None: no sentence of this kind).
KINDS = {
    "lfs": (POINTER, "Git LFS pointer", "Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s93528--4d7a.nir\n", "git annex get", "git annex get"),
    "npz": (TEST.read_bytes(), "arrays ('spikes', 'labels'), not a NIR file. Give the .nir file as MODEL", None),
    "cut npz": (TEST.read_bytes()[:5000], "beginning of a .npz or PyTorch file", "5000 bytes end before the list"),
    "nir": (DIGITS.read_bytes(), None, "an HDF5 file (a .nir network"),
    "cut nir": (DIGITS.read_bytes()[:-1], CUT, CUT),
    "cut new hdf5": (newest_hdf5()[:4000], "it holds 4000 of", "it holds 4000 of"),
    "8 bytes of hdf5": (DIGITS.read_bytes()[:8], "8 bytes of its header", "8 bytes of its header"),
    "torch": (saved(torch.nn.Linear(2, 2).state_dict()), "PyTorch file", "PyTorch file"),
    "old torch": (saved([1], _use_new_zipfile_serialization=False), "pickle", "pickle"),
    "pickle": (pickle.dumps({"a": 1}), "pickle", "pickle"),
    "npy": (npy(), "--data", "spikes=numpy.load(FILE.npy)"),
    "gzip": (gzip.compress(DIGITS.read_bytes()), "gunzip", "gunzip"),
    "tar": (tarred(), "tar xf", "tar xf"),
    "zip": (zipped(readme_dot_txt=b"x"), "a zip archive", None),
    "aedat": (b"#!AER-DAT2.0\r\n", "AEDAT", "AEDAT"),
    "web page": (b"\n<!DOCTYPE html><html><body>404", "a web page", "a web page"),
    "json": (b'{"nodes": []}', "JSON", "JSON"),
    "xml": (b"<?xml version='1.0'?>", "XML", "XML"),
    "text": ("weights are in ümlaut.nir\n".encode(), "begins 'weights are in ümlaut.nir'", "begins 'weights"),
    "empty": (b"", "an empty file", "an empty file"),
    "zeros": (bytes(5000), "5000 bytes that begin with zeros", "5000 bytes that begin with zeros"),
    "nothing known": (b"\xff\xfe\x01\x02\x03" * 20, None, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_is_called_what_it_is(name: str, tmp_path: Path, run: Run) -> None:
    content, as_network, as_spikes = KINDS[name]
    path = tmp_path / "file.nir"
    path.write_bytes(content)
    for wanted, sentence in (("network", as_network), ("spikes", as_spikes)):
        found = kind_of(path, wanted)
        assert (found is None) == (sentence is None), found
        if found is not None and sentence is not None:
            assert sentence in f"is {found[0]}. {found[1]}"
            assert found[1]
    if as_network is not None:
        seen = run("inspect", path)
        assert (seen.status, seen.out) == (2, "")
        assert as_network in seen.err
    if as_spikes is not None:
        seen = run("simulate", DIGITS, "--data", path)
        assert (seen.status, seen.out) == (2, "")
        assert as_spikes in seen.err


def test_the_right_file_in_the_wrong_place_is_named(tmp_path: Path, run: Run) -> None:
    seen = run("simulate", TEST, "--data", DIGITS)  # exchanged
    assert "Give the .nir file as MODEL and this file as --data" in seen.err
    np.savez(tmp_path / "other.npz", x=np.ones(3), y=np.ones(3))
    assert "no array 'spikes', but 'x', 'y'" in run("simulate", DIGITS, "--data", tmp_path / "other.npz").err
    np.savez(tmp_path / "integer.npz", x=np.ones(3))
    assert "Give the bundle's folder as the model" in run("simulate", DIGITS, "--data", tmp_path / "integer.npz").err
    assert "give its folder" in run("inspect", tmp_path / "integer.npz").err
    assert "is a folder" in run("simulate", DIGITS, "--data", tmp_path).err
    (tmp_path / "0001.bin").write_bytes(bytes(range(1, 51)))
    assert "neurocompress events" in run("simulate", DIGITS, "--data", tmp_path / "0001.bin").err
    for target in (DIGITS, TEST):
        assert "is not text" in run("check", DIGITS, "--profile", target).err


def test_an_hdf5_file_of_another_program_says_what_it_holds(tmp_path: Path, run: Run) -> None:
    with h5py.File(tmp_path / "net.nir", "w") as file:
        file["layer/0/weight"] = np.ones(3)
    assert "it has no group 'node', but 'layer'" in run("inspect", tmp_path / "net.nir").err


def test_a_pointer_to_a_recording_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "00001.bin"
    path.write_bytes(POINTER + bytes(-len(POINTER) % 5))  # a length that events have
    with pytest.raises(Refused, match="Git LFS pointer"):
        read_recording(path)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300), st.sampled_from(sorted(KINDS)), st.integers(0, 400),
       st.sampled_from(["network", "spikes"]))
def test_no_content_at_all_makes_it_fail_or_print_controls(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, name: str, kept: int, wanted: str
) -> None:
    path = tmp_path_factory.mktemp("kind") / "x"
    path.write_bytes(KINDS[name][0][:kept] + noise)
    found = kind_of(path, wanted)
    assert found is None or (all(found) and f"{found[0]}{found[1]}".isprintable())
