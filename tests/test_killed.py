"""A run that is killed at any step of its output leaves the old result or the new one, whole, and the next goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from output_verbs import commands, nothing, old_bundle, old_program, prepare

from neurocompress.errors import Refused
from neurocompress.files import whole

KILL_POINTS = Path(__file__).with_name("kill_points.py")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    prepare(folder)
    return folder


DEPLOY = ["deploy", "model.nir", "data.npz"]
#: Beside the verbs as they are typed: the writing of a bundle alone, since all before it takes a second each time.
MORE: dict[str, tuple[list[str], Callable[[Path, Path], None]]] = {
    "deploy over a bundle": ([*DEPLOY, "--last"], old_bundle),
    "deploy by two renames": ([*DEPLOY, "--two-renames", "--last"], old_bundle),
    "deploy anew": ([*DEPLOY, "--last"], nothing), "emit": (["emit", "b8/integer.npz"], old_program),
}


@pytest.mark.parametrize("verb", [*MORE, "compress", "simulate", "events"])
def test_a_run_killed_at_any_step_leaves_a_whole_result_and_the_next_goes_on(verb: str, given: Path, tmp_path: Path):
    arguments, old = (commands(given) | MORE)[verb]
    work = tmp_path / "work"
    work.mkdir()
    (work / "notes.txt").write_text("of the user")
    old(given, work / "out")
    command = [sys.executable, str(KILL_POINTS), str(work), str(work / "out"), *arguments]
    done = subprocess.run(command, cwd=given, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(verb, {k: v for k, v in found.items() if k != "faults"}, found["faults"][:5])
    assert found["faults"] == []
    assert found["steps"] >= 20
    assert found["next runs"] >= 4


# -------------------------------------------------------------------------------------- what a run finds there


def left_by_the_dead(folder: Path, **parts: str) -> Path:
    """A draft as a killed run leaves it."""
    made = folder / f"{whole.PREFIX}{len(list(folder.iterdir())):016x}"
    made.mkdir()
    (made / "lock").touch()
    for name, text in parts.items():
        (made / name).write_text(text)
    return made


def write(path: Path, text: str) -> None:
    with whole.whole_file(path) as new:
        new.write_text(text)


def test_drafts_of_the_dead_go_and_those_of_live_runs_and_of_users_stay(tmp_path: Path):
    dead = [left_by_the_dead(tmp_path, new="half"), left_by_the_dead(tmp_path)]
    (dead[1] / "lock").unlink()  # killed before it made its lock
    others = [tmp_path / ".neurocompress-notes", tmp_path / ".neurocompress-00000000000000zz", tmp_path / "real"]
    for other in others:
        other.mkdir()
    (tmp_path / f"{whole.PREFIX}{'e' * 16}").symlink_to("real")
    (tmp_path / f"{whole.PREFIX}{'f' * 16}").write_text("a file of the user")
    with whole.draft(tmp_path) as live:
        (live / "new").write_text("in work")
        write(tmp_path / "out", "done")
        assert (live / "new").read_text() == "in work"
        assert not any(folder.exists() for folder in dead)
    assert not live.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".neurocompress-00000000000000zz", f"{whole.PREFIX}{'e' * 16}", f"{whole.PREFIX}{'f' * 16}",
        ".neurocompress-notes", "out", "real"]


def test_another_process_spares_a_live_draft(tmp_path: Path):
    code = f"from neurocompress.files import whole\nfrom pathlib import Path\nwhole.tidy(Path({str(tmp_path)!r}))"
    with whole.draft(tmp_path) as live:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert live.is_dir()


@pytest.mark.parametrize(("parts", "there"), [({"new": "new", "old": "old"}, "new"), ({"old": "old"}, "old")])
def test_a_reader_completes_what_was_killed_between_two_renames(parts: dict[str, str], there: str, tmp_path: Path):
    left_by_the_dead(tmp_path, place="b", **parts)
    whole.heal(tmp_path / "b")
    assert (tmp_path / "b").read_text() == there
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("place", ["../outside", "/tmp/outside", "a/../../outside", "", "."])
def test_a_draft_names_no_place_outside_of_its_folder(place: str, tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    left_by_the_dead(folder, place=place, new="planted")
    whole.heal(folder / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert list(folder.iterdir()) == []


def test_where_names_can_not_be_exchanged_two_renames_do_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(whole, "exchange", lambda a, b: False)
    for text in ("one", "two"):
        with whole.whole_folder(tmp_path / "b", lambda: None) as made:
            (made / "file").write_text(text)
        assert (tmp_path / "b" / "file").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_came_to_lie_there_meanwhile_is_not_replaced(tmp_path: Path):
    def again() -> None:
        if os.path.exists(tmp_path / "b" / "mine"):
            raise Refused(())

    (tmp_path / "b").mkdir()
    with pytest.raises(Refused), whole.whole_folder(tmp_path / "b", again):
        (tmp_path / "b" / "mine").write_text("mine")
    assert (tmp_path / "b" / "mine").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
