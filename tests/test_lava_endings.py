"""How Lava programs end before their time: nothing of them is left, and a lack of this machine is said as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cli_runner import DIGITS, EXAMPLE
from conftest import skip_unless_ci
from live_processes import gone, numbers_of
from test_lava_run import NETWORK, SPIKES, fake_python

import neurocompress
from neurocompress.errors import Refused
from neurocompress.targets.lava import emit, run
from neurocompress.targets.lava.endings import of_this_machine

CLI = "from neurocompress.cli import main; main()"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "bundle"
    neurocompress.deploy(DIGITS, "loihi2", data=EXAMPLE / "digits_test.npz", out=folder, method="rtn")
    return folder


def lava_run(bundle: Path, lava: str, folder: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The command line at work on Lava, its temporary folder being `folder`."""
    command = [*before, sys.executable, "-c", CLI, "simulate", str(bundle), "--engine", "lava", "--data",
               str(EXAMPLE / "digits_test.npz")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"NEUROCOMPRESS_LAVA_PYTHON": lava, "TMPDIR": str(folder)})


def at_work(process: subprocess.Popen[str], program: str) -> list[int]:
    """The processes of a program, once it simulates: the program and those that it makes."""
    for _ in range(1200):
        if len(found := numbers_of(program)) > 6 or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    return found


@pytest.mark.lava
@pytest.mark.parametrize("early", [False, True])
def test_nothing_of_lava_outlives_a_kill_that_can_not_be_caught(early: bool, bundle: Path, lava: str) -> None:
    program = str((bundle / "lava" / "program.py").resolve())
    shared = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, lava_run(bundle, lava, Path(folder)) as process:
        if early:  # as soon as anything of it runs
            while not numbers_of(program) and process.poll() is None:
                time.sleep(0.001)
        else:
            at_work(process, program)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL
        assert gone(lambda: numbers_of(program))
        assert gone(lambda: set(os.listdir("/dev/shm")) - shared)
        assert gone(lambda: os.listdir(folder))


@pytest.mark.lava
def test_a_process_of_lava_that_is_killed_ends_the_run_with_a_sentence(bundle: Path, lava: str) -> None:
    """As the kernel does where memory runs out; Lava's other processes would wait for it for ever."""
    program = str((bundle / "lava" / "program.py").resolve())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, lava_run(bundle, lava, Path(folder)) as process:
        os.kill(at_work(process, program)[-1], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (2, "")
        assert "was killed from outside, as the system does when memory runs out. Use fewer samples" in err
        assert "Traceback" not in err
        assert gone(lambda: numbers_of(program))
        assert os.listdir(folder) == []


@pytest.mark.lava
@pytest.mark.parametrize(("options", "sentence"), [
    ("size=16k", "no space is left in /dev/shm"), ("size=300k", "/dev/shm"),
    ("ro", "can not make shared memory in /dev/shm"),
])
def test_shared_memory_that_is_full_or_locked_is_a_sentence(
        options: str, sentence: str, bundle: Path, lava: str) -> None:
    """From no room at all to room for a part of the messages: then a process dies by SIGBUS in the midst of it."""
    if os.geteuid() != 0:
        skip_unless_ci("only root may mount another /dev/shm")
    mounted = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"', "sh")
    with lava_run(bundle, lava, Path("/tmp"), mounted) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, "")
    last = err.splitlines()[-1]  # after the lines of progress
    assert last.startswith("error: ")
    assert sentence in last
    assert "Make room there" in last or "Make it a folder" in last
    assert "Traceback" not in err


@pytest.mark.lava
def test_too_few_open_files_are_a_sentence(bundle: Path, lava: str) -> None:
    with lava_run(bundle, lava, Path("/tmp"), ("sh", "-c", 'ulimit -n 40; exec "$@"', "sh")) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, "")
    assert "Raise the limit on open files (ulimit -n 4096)" in err


WORDS = [
    ("OSError: [Errno 28] No space left on device", "no space is left in /dev/shm"),
    ("RuntimeError: can't start new thread", "no further process or thread may be started"),
    ("BlockingIOError: [Errno 11] Resource temporarily unavailable", r"Raise the limit on processes \(ulimit -u"),
    ("OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2", "no further process or thread"),
    ("MemoryError", "memory ran out. Use fewer samples"),
    ("OSError: [Errno 30] Read-only file system: '/psm_5bc160c3'", "can not make shared memory in /dev/shm"),
    ("FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp']", "Set TMPDIR"),
    ("A process of Lava was ended by SIGBUS during the run.", "the shared memory of this machine, /dev/shm, is full"),
]


@pytest.mark.parametrize(("words", "sentence"), WORDS)
def test_what_the_machine_lacks_is_told_from_the_last_words(words: str, sentence: str, tmp_path: Path) -> None:
    emit(NETWORK, tmp_path / "lava")
    python = fake_python(tmp_path / "python", f'echo "{words}" >&2; exit 1')
    with pytest.raises(Refused, match=sentence):
        run(tmp_path / "lava", SPIKES, python=python)


def test_a_program_that_the_system_kills_is_no_bug(tmp_path: Path) -> None:
    emit(NETWORK, tmp_path / "lava")
    with pytest.raises(Refused, match="killed from outside"):
        run(tmp_path / "lava", SPIKES, python=fake_python(tmp_path / "python", "kill -9 $$"))


@pytest.mark.parametrize("words", ["", "ValueError: 28", "FileNotFoundError: [Errno 2] No such file: 'weights.npz'"])
def test_other_words_stay_what_they_are(words: str) -> None:
    assert of_this_machine(1, words, "program", "/tmp") is None


def test_no_temporary_folder_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emit(NETWORK, tmp_path / "lava")
    python = fake_python(tmp_path / "python", "exit 0")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    with pytest.raises(Refused, match=r"no temporary folder that can be written to\. Set TMPDIR to a folder"):
        run(tmp_path / "lava", SPIKES, python=python)
