"""Running a Lava program: what comes back, and a sentence for everything that can go wrong on the way."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.errors import Refused
from neurocompress.targets.lava import emit, run
from neurocompress.targets.lava.interpreter import VARIABLE, lava_python
from neurocompress.targets.lava.run import run_limited

LIF = Population("lif", (3,), np.array(4095), np.array(0), np.array(50), np.array(0))
OUT = replace(LIF, name="out", latency=2, fire=">=")
NETWORK = IntegerNetwork("in", (4,), "out", (LIF, OUT), (
    Synapses("fc", "in", "lif", np.full((3, 4), 80), None, 0, 8, "mixed", (4,), (3,)),
    Synapses("fc2", "lif", "out", np.full((3, 3), 30), None, 0, 8, "mixed", (3,), (3,))), Arithmetic())
SPIKES = np.eye(4, dtype=np.uint8)[None].repeat(2, axis=0)  # two samples: input i spikes in step i


@pytest.fixture
def program(tmp_path):
    emit(NETWORK, tmp_path / "lava")
    return tmp_path / "lava"


@pytest.mark.lava
def test_run_gives_aligned_spikes_states_and_the_stream(program, lava):
    found = run(program, SPIKES, record=["lif"], states=True)
    # 80 > 50 in every step; 3 * 30 >= 50 in every step
    for name in ("lif", "out"):
        np.testing.assert_array_equal(found.spikes[name], np.ones((2, 4, 3)))
        np.testing.assert_array_equal(found.v[name], np.zeros((2, 4, 3)))
        assert found.stream[name].shape == (2 * found.period, 3)
    np.testing.assert_array_equal(found.u["lif"], np.full((2, 4, 3), 80 << 6))
    np.testing.assert_array_equal(found.stream["out"][:, 0], [0, 0, 1, 1, 1, 1] * 2)
    assert found.period == 6
    assert found.seconds_per_step > 0


@pytest.mark.lava
@pytest.mark.parametrize("length", [43, 44, 200])
def test_a_long_path_to_the_temporary_folder_is_no_obstacle(program, lava, monkeypatch, length):
    """A socket's path has at most 107 bytes, and Lava makes one below the temporary folder."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        long = Path(folder)
        while (left := length - len(str(long))) > 0:
            long /= "x" * max(1, min(left - 1, 50))
        long.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("TMPDIR", str(long))
        assert run(program, SPIKES).spikes["out"].all()
        assert list(long.iterdir()) == []


@pytest.mark.lava
def test_run_records_the_output_alone_by_default(program, lava):
    found = run(program, SPIKES.astype(bool))
    assert set(found.spikes) == {"out"}
    assert found.u == {}


@pytest.mark.lava
@pytest.mark.parametrize(("spikes", "record", "sentence"), [
    (SPIKES[..., :3], (), r"have shape \(2, 4, 3\)\. Expected \(samples, steps, 4\)"),
    (SPIKES[:0], (), r"have shape \(0, 4, 4\)"),
    (SPIKES * 2, (), "range from 0 to 2. This network takes 0 to 1"),
    (SPIKES * 0.5, (), "no whole numbers"),
    (SPIKES * np.nan, (), "NaN or infinite"),
    (SPIKES, ("gone",), "no layer 'gone' to record. There are 'lif', 'out'"),
])
def test_run_refuses_what_does_not_fit(program, lava, spikes, record, sentence):
    with pytest.raises(Refused, match=sentence):
        run(program, spikes, record)


@pytest.mark.lava
def test_a_file_that_is_no_npz_gets_a_sentence(program, lava, tmp_path):
    (tmp_path / "data").write_bytes(b"hello")
    status, messages = run_limited(
        [lava, str(program / "program.py"), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out.npz")], 60,
        tmp_path)
    assert status == 2
    assert "can not read `spikes`" in messages
    assert "Traceback" not in messages
    assert not (tmp_path / "out.npz").exists()


def test_run_needs_a_program(tmp_path):
    with pytest.raises(Refused, match=r"there is no program\.py"):
        run(tmp_path, SPIKES)


def fake_python(path, script, lava_version="0.10.0"):
    """An interpreter that passes as Python 3.10 with Lava and runs `script` as its program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo 3 10 {lava_version}; exit 0; fi\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_program_that_hangs_is_stopped_with_its_children(program, tmp_path):
    python = fake_python(tmp_path / "python", f'sh -c "sleep 300 & echo \\$! > {tmp_path}/child; wait"')
    with pytest.raises(Refused, match=r"did not finish in 1 s\. Use fewer samples"):
        run(program, SPIKES, python=python, timeout_s=1)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):  # until init has buried it
        if not os.path.exists(f"/proc/{child}"):
            break
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_program_that_breaks_shows_its_last_words(program, tmp_path):
    python = fake_python(tmp_path / "python", "echo something broke >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"status 1:\nsomething broke"):
        run(program, SPIKES, python=python)


def test_an_interpreter_without_lava_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(Refused, match=f"{VARIABLE}: .* has no lava-nc"):
        lava_python()
    with pytest.raises(Refused, match="does not run"):
        lava_python(str(tmp_path / "gone"))


UV = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = venv ] || exit 0
for last; do :; done
mkdir -p "$last/bin"
printf '#!/bin/sh\\necho 3 10 0.10.0\\n' > "$last/bin/python"
chmod +x "$last/bin/python"
"""


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A user without NEUROCOMPRESS_LAVA_PYTHON, with an empty cache and nothing but a folder of ours as PATH."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_the_environment_is_made_once_with_uv(own_cache):
    uv = own_cache / "bin" / "uv"
    uv.write_text(UV.format(log=own_cache / "log"))
    uv.chmod(0o755)
    first = lava_python()
    assert first == lava_python() == str(own_cache / "cache/neurocompress/lava-nc-0.10.0-py3.10/bin/python")
    commands = (own_cache / "log").read_text().splitlines()
    assert [c.split()[0] for c in commands] == ["venv", "pip"]
    assert commands[0].split("--python ")[1].startswith("3.10 ")
    assert commands[1].endswith("lava-nc==0.10.0")


def test_uv_that_fails_leaves_no_environment_behind(own_cache):
    uv = own_cache / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "error: no network" >&2\nexit 2\n')
    uv.chmod(0o755)
    with pytest.raises(Refused, match=f"error: no network.*Set {VARIABLE}"):
        lava_python()
    assert list((own_cache / "cache/neurocompress").iterdir()) == []


def test_pyenv_versions_are_used_where_shims_hide_them(own_cache):
    fake_python(own_cache / "pyenv/versions/3.10.13/bin/python3.10", "")
    uv = own_cache / "bin" / "uv"
    uv.write_text(UV.format(log=own_cache / "log"))
    uv.chmod(0o755)
    lava_python()
    assert "pyenv/versions/3.10.13/bin/python3.10" in (own_cache / "log").read_text()
