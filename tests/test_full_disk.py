"""A disk or a limit that is met in the midst of writing: a sentence, status 2, and the old result as it was."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import Run, everything
from conftest import skip_unless_ci
from output_verbs import commands, prepare

VERBS = ("deploy", "compress", "simulate", "events")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    prepare(folder)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    if os.geteuid() != 0:
        skip_unless_ci("only root may mount a disk; the limit on the size of files is tested all the same")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def leave(disk: Path, free: int) -> None:
    """Fills the disk up to `free` bytes."""
    state = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        file.write(bytes(max(0, state.f_bavail * state.f_frsize - free)))


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_refused_and_the_old_result_stays(verb: str, given: Path, disk: Path, run: Run):
    arguments, old = commands(given)[verb]
    work, ended = disk / "work", set()
    for free in (0, 4096, 16384, 65536, 262144):
        work.mkdir()
        old(given, work / "out")
        leave(disk, free)
        before = everything(work)
        seen = run(*arguments, "--out", work / "out")
        ended.add(seen.status)
        if seen.status == 2:
            assert "can not be written (No space left on device)" in seen.err
            assert seen.err.startswith("error: ")
            assert seen.err.count("\n") == 1
            left = everything(work)
            assert {k: v for k, v in left.items() if not k.startswith("out.partial")} == before
        else:
            assert seen.status == 0, seen
            assert everything(work) != before
        (disk / "filler").unlink()
        assert run(*arguments, "--out", work / "out").status == 0, "the next run goes on"
        assert [p.name for p in work.iterdir()] == ["out"]
        shutil.rmtree(work)
    assert ended == {0, 2}


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("verb", VERBS)
def test_a_limit_on_the_size_of_files_is_a_full_disk(verb: str, given: Path, tmp_path: Path, run: Run):
    arguments, old = commands(given)[verb]
    old(given, tmp_path / "out")
    before, ended = everything(tmp_path), []
    for size in (0, 1, 500, 4000, 20_000, 40_000):
        with files_of_at_most(size):
            seen = run(*arguments, "--out", tmp_path / "out")
        ended.append(seen.status)
        if seen.status == 0:
            break
        assert seen.status == 2
        assert "can not be written (File too large)" in seen.err
        assert "ulimit -f" in seen.err
        assert {k: v for k, v in everything(tmp_path).items() if not k.startswith("out.partial")} == before
    assert ended[:2] == [2, 2]
    assert run(*arguments, "--out", tmp_path / "out").status == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_process_that_met_the_limit_ends_without_an_abort(given: Path, tmp_path: Path):
    """HDF5 that could not write the end of a file used to do so again when Python ended, and failed."""
    for verb, blocks in (("deploy", 4), ("compress", 1)):
        arguments, old = commands(given)[verb]
        old(given, tmp_path / verb)
        before = everything(tmp_path)
        line = 'ulimit -f "$1"; shift; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", line, "bash", str(blocks), sys.executable, "-m", "neurocompress.cli", *arguments, "--out",
             str(tmp_path / verb)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "can not be written (File too large)" in done.stderr
        assert done.stdout == ""
        assert {k: v for k, v in everything(tmp_path).items() if ".partial" not in k} == before
