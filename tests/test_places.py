"""No verb overwrites or removes what it did not write itself; what can not be written is refused before any work."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run, everything, runner

from neurocompress.files.bundle import read_report

TO = ("--target", "loihi2")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Every verb, none of which may read a network: what is refused here is refused before any work."""

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("the output was not refused first")

    monkeypatch.setattr("neurocompress.frontends.nir.read", worked)
    monkeypatch.setattr("neurocompress.data.spikes.load_spikes", worked)
    monkeypatch.setattr(importlib.import_module("neurocompress.data.frames"), "events_to_spikes", worked)
    return runner(capsys)


def refused(run: Run, folder: Path, *arguments: object) -> str:
    before = everything(folder)
    seen = run(*arguments)
    assert seen.status == 2, seen
    assert seen.err.startswith("error: ")
    assert seen.err.count("\n") == 1
    assert everything(folder) == before
    return seen.err


def deployed(run: Run, out: Path, *more: object) -> tuple[object, ...]:
    return ("deploy", DIGITS, *TO, "--method", "rtn", "--out", out, *more)


# ---------------------------------------------------------------------------------------------- deploy --out


def add_note(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def add_result(folder: Path) -> None:
    (folder / "lava" / "result.npz").write_bytes(b"mine")


def add_folder(folder: Path) -> None:
    (folder / "figures").mkdir()


def edit_program(folder: Path) -> None:
    with (folder / "lava" / "program.py").open("a") as file:
        file.write("# mine\n")


def edit_profile(folder: Path) -> None:
    with (folder / "profile.yaml").open("a") as file:
        file.write("# mine\n")


def link_part(folder: Path) -> None:
    (folder / "model.nir").rename(folder.parent / "elsewhere.nir")
    (folder / "model.nir").symlink_to(folder.parent / "elsewhere.nir")


def folder_for_part(folder: Path) -> None:
    (folder / "integer.npz").unlink()
    (folder / "integer.npz").mkdir()
    (folder / "integer.npz" / "a").write_text("mine")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def into_cache(folder: Path) -> None:
    (folder / "lava" / "__pycache__").mkdir()
    (folder / "lava" / "__pycache__" / "mine.txt").write_text("mine")


def hidden(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("mine")


@pytest.mark.parametrize(("change", "name"), [
    (add_note, "notes.txt"), (add_result, "lava/result.npz"), (add_folder, "figures"),
    (edit_program, "lava/program.py"), (edit_profile, "profile.yaml"), (link_part, "model.nir"),
    (folder_for_part, "integer.npz"), (pipe, "pipe"), (into_cache, "lava/__pycache__/mine.txt"), (hidden, ".git"),
])
def test_a_bundle_with_anything_of_the_users_is_not_replaced(change, name, bundle: Path, tmp_path: Path, run: Run):
    change(bundle)
    before = [p for p in sorted(tmp_path.rglob("*")) if not p.is_fifo()]
    seen = run(*deployed(run, bundle))
    assert seen.status == 2
    assert "it is a bundle, and it holds what `deploy` did not write so" in seen.err
    assert f"'{name}'" in seen.err
    assert "--force" in seen.err
    assert [p for p in sorted(tmp_path.rglob("*")) if not p.is_fifo()] == before


@pytest.mark.parametrize("report", [None, "", "{}", '{"schema": "neurocompress.report/1"}', '{"files": 3}', "[]",
                                    '{"files": {"thesis.tex": "0"}}'])
def test_a_folder_of_something_else_is_not_replaced_whatever_its_report_says(report, tmp_path: Path, run: Run):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    if report is not None:
        (folder / "report.json").write_text(report)
    assert "'thesis.tex'" in refused(run, tmp_path, *deployed(run, folder))


def test_the_default_folder_is_treated_alike(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "digits-loihi2").mkdir()
    (tmp_path / "digits-loihi2" / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert "digits-loihi2: it exists and is no bundle" in refused(run, tmp_path, "deploy", DIGITS, *TO)


def test_an_input_inside_the_bundle_is_no_output_even_by_force(bundle: Path, tmp_path: Path, run: Run):
    shutil.copy(EXAMPLE / "digits_test.npz", bundle / "data.npz")
    link = tmp_path / "link.nir"
    link.symlink_to(bundle / "model.nir")
    for arguments in (("deploy", bundle / "model.nir", *TO), ("deploy", link, *TO), ("deploy", bundle, *TO),
                      ("deploy", DIGITS, *TO, "--data", bundle / "data.npz"),
                      ("deploy", DIGITS, "--profile", bundle / "profile.yaml")):
        assert "holds an input of this run" in refused(run, tmp_path, *arguments, "--out", bundle, "--force")


def test_force_spares_the_folder_one_works_in_and_home(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    work, home = tmp_path / "a" / "b", tmp_path / "home"
    work.mkdir(parents=True)
    home.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    for folder in (work, tmp_path / "a", home, Path("."), Path("..")):
        assert "the folder that this runs in" in refused(run, tmp_path, *deployed(run, folder, "--force"))
    assert "it is a mount point" in refused(run, tmp_path, *deployed(run, Path("/proc"), "--force"))


def test_a_place_that_can_not_be_written_is_refused_first(tmp_path: Path, run: Run):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "b", tmp_path / "file" / "x" / "b", tmp_path / ("n" * 300),
                Path("/proc/nothing/b")):
        assert "it can not be written" in refused(run, tmp_path, *deployed(run, out))
    assert "it exists and is no bundle" in refused(run, tmp_path, *deployed(run, tmp_path / "file"))
    os.mkfifo(tmp_path / "pipe")
    seen = run(*deployed(run, tmp_path / "pipe", "--force"))
    assert (seen.status, (tmp_path / "pipe").is_fifo()) == (2, True)


# --------------------------------------------------------------------------------------- files of other verbs


def same_files(folder: Path, file: Path) -> list[Path]:
    """`file` by other names: a symbolic link, a hard link, a path through a folder, a link to its folder."""
    (folder / "soft").symlink_to(file)
    os.link(file, folder / "hard")
    (folder / "inside").symlink_to(folder)
    return [file, folder / "soft", folder / "hard", folder / "x" / ".." / file.name, folder / "inside" / file.name]


def test_no_verb_overwrites_its_input_by_any_name(tmp_path: Path, run: Run, made: Path):
    (tmp_path / "x").mkdir()
    data, model, recipe = tmp_path / "data.npz", tmp_path / "model.nir", tmp_path / "r.yaml"
    np.savez(data, output=1, spikes=1)  # of the kind that simulate and events write
    shutil.copy(DIGITS, model)
    with h5py.File(model, "r+") as file:
        file["node/metadata/recipe"] = "{}"  # of the kind that compress writes
    recipe.write_text("bits: 4")
    for name in same_files(tmp_path, data):
        for arguments in (("simulate", DIGITS, "--data", data), ("simulate", data, "--data", DIGITS),
                          ("events", data, "--dt", 1, "--steps", 2)):
            assert "it is an input of this run" in refused(run, tmp_path, *arguments, "--out", name)
        assert "it is an input" in refused(run, tmp_path, "compress", DIGITS, "--data", data, "--out", name)
    for link in ("soft", "hard", "inside"):
        (tmp_path / link).unlink()
    for name in same_files(tmp_path, model):
        assert "it is an input" in refused(run, tmp_path, "compress", model, "--data", data, "--out", name)
    assert "it is an input" in refused(run, tmp_path, "compress", model, "--recipe", recipe, "--out", recipe)


def test_a_verb_overwrites_only_what_it_wrote(tmp_path: Path, run: Run):
    (tmp_path / "text").write_text("mine")
    np.savez(tmp_path / "spikes.npz", spikes=np.ones((1, 2, 3)))
    np.savez(tmp_path / "output.npz", output=np.ones(3))
    shutil.copy(DIGITS, tmp_path / "trained.nir")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "output.npz").read_bytes()[:50])
    recording = tmp_path / "a.bin"
    recording.write_bytes(bytes(10))
    for arguments, spared in (
        (("simulate", DIGITS, "--data", DIGITS), ("text", "spikes.npz", "trained.nir", "cut.npz", "a.bin")),
        (("events", tmp_path, "--dt", 1, "--steps", 1), ("text", "output.npz", "trained.nir", "cut.npz", "a.bin")),
        (("compress", DIGITS, "--bits", 4), ("text", "spikes.npz", "output.npz", "trained.nir", "a.bin")),
    ):
        for name in spared:
            found = refused(run, tmp_path, *arguments, "--out", tmp_path / name)
            assert f"it exists, and `{arguments[0]}` did not write it" in found


def test_no_verb_overwrites_a_part_of_a_bundle(bundle: Path, tmp_path: Path, run: Run):
    with h5py.File(bundle / "model.nir", "r+") as file:
        file["node/metadata/recipe"] = "{}"  # deployed from what compress had written
    for arguments, part in ((("compress", DIGITS), "model.nir"),
                            (("simulate", bundle, "--data", DIGITS), "integer.npz"),
                            (("simulate", DIGITS, "--data", DIGITS), "lava/weights.npz"),
                            (("events", DIGITS, "--dt", 1, "--steps", 1), "report.json")):
        assert "it is a part of a bundle" in refused(run, tmp_path, *arguments, "--out", bundle / part)


def test_files_that_can_not_be_written_are_refused_first(tmp_path: Path, run: Run):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for out, sentence in ((tmp_path / "none" / "o", "there is no folder"), (tmp_path / "file" / "o", "is no folder"),
                          (tmp_path, "it is a folder"), (tmp_path / ("n" * 300), "File name too long"),
                          (tmp_path / "loop", "symbolic links"), (Path("/dev/null"), "it is no file"),
                          (tmp_path / "pipe", "it is no file"), (Path("/proc/o"), "")):
        for arguments in (("simulate", DIGITS, "--data", DIGITS), ("compress", DIGITS, "--bits", 4),
                          ("events", DIGITS, "--dt", 1, "--steps", 1)):
            seen = run(*arguments, "--out", out)
            assert seen.status == 2
            assert "it can not be written" in seen.err
            assert sentence in seen.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop", "pipe"]


@pytest.mark.parametrize("there", ["file", "notes", "key and notes", "no key"])
def test_what_stands_where_unfinished_runs_go_is_refused_first(there: str, tmp_path: Path, run: Run):
    partial = tmp_path / "o.nir.partial"
    if there == "file":
        partial.write_text("mine")
    else:
        partial.mkdir()
        if "notes" in there:
            (partial / "notes").write_text("mine")
        if "key" in there:
            (partial / ("0" * 16 + ".npz")).write_bytes(b"")
        if there == "key and notes":
            (partial / "key").write_text("old")
    found = refused(run, tmp_path, "compress", DIGITS, "--bits", 4, "--out", tmp_path / "o.nir")
    assert "it exists and holds no unfinished run alone" in found


# ------------------------------------------------------------------------------------------ what is replaced


@pytest.fixture
def verbs(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


def test_force_replaces_and_says_what_it_removed(bundle: Path, four: Path, tmp_path: Path, verbs: Run):
    add_note(bundle)
    edit_program(bundle)
    seen = verbs(*deployed(verbs, bundle, "--data", four, "--force", "--json"))
    assert seen.json["removed"] == ["lava/program.py", "notes.txt"]
    assert not (bundle / "notes.txt").exists()
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out, names in ((other, "deep, deep/thesis.tex"), (tmp_path / "file", str(tmp_path / "file"))):
        seen = verbs(*deployed(verbs, out, "--data", four, "--force"))
        assert seen.status == 0
        assert f"--force removed from {out}: {names}\n" in seen.out
        assert (out / "report.json").is_file()
    assert verbs(*deployed(verbs, other, "--data", four, "--json")).json["removed"] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "file", "other"]


def test_a_symbolic_link_stays_one_and_its_folder_is_replaced(bundle: Path, four: Path, tmp_path: Path, verbs: Run):
    link, new, dangling = tmp_path / "latest", tmp_path / "new", tmp_path / "next"
    link.symlink_to("bundle")
    dangling.symlink_to("new")
    for name, folder in ((link, bundle), (dangling, new)):
        assert verbs(*deployed(verbs, name, "--data", four, "--bits", 4)).status == 0
        assert name.is_symlink()
        assert not folder.is_symlink()
        assert "4" in str(read_report(folder)["options"]["bits"])
    add_note(bundle)
    assert "'notes.txt'" in refused(verbs, tmp_path, *deployed(verbs, link, "--data", four))
    for name, arguments in (("o.npz", ("simulate", DIGITS, "--data", four)), ("o.nir", ("compress", DIGITS, "--bits", 4,
                                                                                      "--data", four))):
        (tmp_path / f"link-{name}").symlink_to(name)
        for _ in range(2):
            assert verbs(*arguments, "--out", tmp_path / f"link-{name}").status == 0
            assert (tmp_path / f"link-{name}").is_symlink()
            assert (tmp_path / name).is_file()


def test_what_python_keeps_of_an_imported_program_is_no_obstacle(bundle: Path, four: Path, verbs: Run):
    for cache in (bundle / "lava" / "__pycache__", bundle / "lava" / "spike_io" / "__pycache__"):
        cache.mkdir()
        (cache / "stream.cpython-310.pyc").write_bytes(b"")
    assert verbs(*deployed(verbs, bundle, "--data", four)).status == 0
    assert not list(bundle.rglob("__pycache__"))


def test_an_empty_folder_or_file_holds_nothing_to_lose(four: Path, tmp_path: Path, verbs: Run):
    (tmp_path / "b").mkdir()
    assert verbs(*deployed(verbs, tmp_path / "b", "--data", four)).status == 0
    for name, arguments in (("o.npz", ("simulate", DIGITS, "--data", four)), ("o.nir", ("compress", DIGITS, "--bits", 4,
                                                                                      "--method", "rtn"))):
        (tmp_path / name).touch()
        assert verbs(*arguments, "--out", tmp_path / name).status == 0
        assert (tmp_path / name).stat().st_size
