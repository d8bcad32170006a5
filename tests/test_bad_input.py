"""Bad input gets a sentence and exit status 2, and leaves nothing behind; a run that dies spares what was there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run, everything

import neurocompress
from neurocompress.chip.profile.load import profile_text
from neurocompress.data.spikes import load_spikes
from neurocompress.files import bundle as bundles

TO = ("--target", "loihi2")


@pytest.fixture
def data(four: Path) -> Path:
    return four


def refused(run: Run, folder: Path, *arguments: object) -> str:
    """The sentences of a command that must be refused, alike in both kinds of output, and leave `folder` as it was."""
    before = everything(folder)
    seen = run(*arguments)
    assert seen.status == 2, seen
    assert seen.out == ""
    assert "Traceback" not in seen.err
    lines = seen.err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines)
    as_json = run(*arguments, "--json")
    assert as_json.status == 2
    assert as_json.err == seen.err
    assert as_json.json["verb"] == "error"
    assert len(as_json.json["problems"]) == len(lines)
    assert all(problem["what"] and problem["fix"] for problem in as_json.json["problems"])
    assert everything(folder) == before, "something was left behind"
    return seen.err


# ----------------------------------------------------------------------------------------------------- models


def edited(path: Path, change: Callable[[h5py.Group], None]) -> Path:
    """A copy of the shipped network with something wrong in it."""
    shutil.copy(DIGITS, path)
    with h5py.File(path, "r+") as file:
        change(file["node/nodes"])
    return path


def nan_weight(nodes: h5py.Group) -> None:
    nodes["fc1/weight"][3, 5] = np.nan


def negative_tau(nodes: h5py.Group) -> None:
    nodes["lif2/tau"][...] = -0.01


def unknown_type(nodes: h5py.Group) -> None:
    del nodes["lif1/type"]
    nodes["lif1/type"] = "Izhikevich"


def two_at_once(nodes: h5py.Group) -> None:
    nan_weight(nodes)
    negative_tau(nodes)


@pytest.mark.parametrize(("change", "sentences"), [
    (nan_weight, ["fc1", "NaN"]), (negative_tau, ["lif2", "tau"]), (unknown_type, ["lif1", "Izhikevich"]),
    (two_at_once, ["fc1", "lif2"]),
])
def test_a_model_with_bad_values_is_refused_by_every_verb(
    change: Callable[[h5py.Group], None], sentences: list[str], tmp_path: Path, data: Path, run: Run
) -> None:
    model = edited(tmp_path / "bad.nir", change)
    for arguments in (["check", model, *TO], ["inspect", model], ["simulate", model, "--data", data],
                      ["compare", DIGITS, model, "--data", data],
                      ["deploy", model, *TO, "--data", data, "--out", tmp_path / "b"]):
        found = refused(run, tmp_path, *arguments)
        assert all(part in found for part in [*sentences, "bad.nir"])


def test_a_model_that_is_no_nir_file_is_refused(tmp_path: Path, run: Run) -> None:
    cut = tmp_path / "cut.nir"
    cut.write_bytes(DIGITS.read_bytes()[:20_000])
    text = tmp_path / "text.nir"
    text.write_text("hello")
    empty = tmp_path / "empty.nir"
    empty.touch()
    for model, sentence in ((cut, "it holds 20000 of "),
                            (text, "that begins 'hello', not a NIR file"), (empty, "is an empty file"),
                            (tmp_path / "none.nir", "does not exist"), (tmp_path, "it is a folder, and no bundle"),
                            (tmp_path / ("a" * 400), "Check the path"), (text / "x.nir", "Check the path")):
        found = refused(run, tmp_path, "check", model, *TO)
        assert sentence in found
    assert "is a folder" in refused(run, tmp_path, "deploy", tmp_path, *TO, "--out", tmp_path / "b")


# ------------------------------------------------------------------------------------------------------- data


def spikes_of(data: Path) -> tuple[np.ndarray, np.ndarray]:
    found = load_spikes(data)
    assert found.labels is not None
    return found.spikes, found.labels


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda s, y: {"x": s}, "it holds no array 'spikes'"),
    (lambda s, y: {"spikes": s[..., :60]}, "it has shape (4, 32, 60), expected (samples, timesteps, 64)"),
    (lambda s, y: {"spikes": s[0]}, "it has shape (32, 64), expected (samples, timesteps, 64)"),
    (lambda s, y: {"spikes": s[:0]}, "it is empty"),
    (lambda s, y: {"spikes": np.where(s > 0, np.nan, 0)}, "NaN or infinite values"),
    (lambda s, y: {"spikes": s, "labels": y[:3]}, "it holds 3 labels for 4 samples"),
    (lambda s, y: {"spikes": s, "labels": y.astype(float)}, "expected integers"),
    (lambda s, y: {"spikes": -1.0 * s, "labels": y[:3]}, "it holds 3 labels for 4 samples"),
    (lambda s, y: {"spikes": np.array([{}], dtype=object)}, "it holds object values"),
])
def test_data_that_are_no_spikes_are_refused_by_every_verb(
    make: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]], sentence: str, data: Path, bundle: Path,
    tmp_path: Path, run: Run
) -> None:
    bad = tmp_path / "bad.npz"
    np.savez(bad, **make(*spikes_of(data)))  # type: ignore[arg-type]
    for arguments in (["simulate", DIGITS, "--data", bad, "--out", tmp_path / "o.npz"],
                      ["simulate", bundle, "--engine", "emulator", "--data", bad],
                      ["simulate", bundle, "--engine", "lava", "--data", bad],
                      ["compare", DIGITS, bundle, "--data", bad],
                      ["deploy", DIGITS, *TO, "--data", bad, "--out", tmp_path / "b"]):
        assert sentence in refused(run, tmp_path, *arguments)


@pytest.mark.parametrize(("factor", "sentence"), [(0.5, "no whole numbers"), (-1, "negative values")])
def test_real_values_are_currents_in_floating_point_and_refused_by_a_chip_that_was_deployed_for_spikes(
    factor: float, sentence: str, data: Path, bundle: Path, tmp_path: Path, run: Run
) -> None:
    currents = tmp_path / "currents.npz"
    np.savez(currents, spikes=spikes_of(data)[0] * np.float32(factor))
    assert run("simulate", DIGITS, "--data", currents).status == 0
    for arguments in (["simulate", bundle, "--engine", "emulator", "--data", currents],
                      ["simulate", bundle, "--engine", "lava", "--data", currents],
                      ["compare", DIGITS, bundle, "--data", currents],
                      ["deploy", DIGITS, *TO, "--input", "spikes", "--data", currents, "--out", tmp_path / "b"]):
        assert sentence in refused(run, tmp_path, *arguments)


def test_data_that_are_no_npz_file_are_refused(data: Path, tmp_path: Path, run: Run) -> None:
    cut = tmp_path / "cut.npz"
    cut.write_bytes(data.read_bytes()[:-100])
    plain = tmp_path / "plain.npy"
    np.save(plain, np.zeros((2, 3, 64)))
    for bad, sentence in ((cut, "only the beginning of a .npz file"), (plain, "(.npy), not a .npz file"),
                          (tmp_path / "none.npz", "there is no such file"),
                          (tmp_path, "is a folder, and a .npz file is")):
        assert sentence in refused(run, tmp_path, "simulate", DIGITS, "--data", bad)


def test_without_labels_everything_works_and_says_that_there_is_no_accuracy(
    data: Path, bundle: Path, tmp_path: Path, run: Run
) -> None:
    spikes, _ = spikes_of(data)
    np.savez(tmp_path / "plain.npz", spikes=spikes)
    for arguments, key in (
        (["simulate", DIGITS], "accuracy"), (["compare", DIGITS, bundle], "accuracy"),
        (["deploy", DIGITS, *TO, "--method", "rtn", "--out", tmp_path / "b"], "accuracy_held_out"),
    ):
        seen = run(*arguments, "--data", tmp_path / "plain.npz")
        assert seen.status == 0
        assert "no labels" in seen.out
        assert run(*arguments, "--data", tmp_path / "plain.npz", "--json").json[key] is None


def test_one_sample_calibrates_and_none_is_held_out(data: Path, tmp_path: Path, run: Run) -> None:
    load_spikes(data).first(1).save(tmp_path / "one.npz")
    found = run("deploy", DIGITS, *TO, "--data", tmp_path / "one.npz", "--method", "rtn", "--out", tmp_path / "b",
                "--json")
    assert found.json["accuracy_held_out"] is None
    assert set(found.json["accuracy"]) == {"float", "compressed", "emulated"}


def test_counts_are_refused_where_the_chip_or_the_bundle_takes_single_spikes(
    data: Path, bundle: Path, tmp_path: Path, run: Run
) -> None:
    spikes, _ = spikes_of(data)
    counts = tmp_path / "counts.npz"
    np.savez(counts, spikes=3 * spikes)
    for arguments in (["simulate", bundle, "--engine", "emulator"], ["simulate", bundle, "--engine", "lava"],
                      ["compare", DIGITS, bundle]):
        assert "up to 3 spikes per input and step" in refused(run, tmp_path, *arguments, "--data", counts)
    found = refused(run, tmp_path, "deploy", DIGITS, "--target", "loihi1", "--input", "spikes", "--data", counts,
                    "--out", tmp_path / "b")
    assert "up to 3 spikes come per input and step, and Intel Loihi 1 receives one spike per input and step" in found
    assert "--input host" in found
    graded = run("deploy", DIGITS, *TO, "--data", counts, "--method", "rtn", "--out", tmp_path / "b")
    assert graded.status == 0, "the chip with graded spikes takes them"
    assert run("simulate", tmp_path / "b", "--engine", "emulator", "--data", counts).status == 0
    np.savez(counts, spikes=4 * spikes)
    found = refused(run, tmp_path, "simulate", tmp_path / "b", "--engine", "emulator", "--data", counts)
    assert "up to 4 spikes per input and step, and the bundle was deployed for at most 3" in found


# ---------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(("options", "sentence"), [
    (["--bits", 99], "bits is 99. Give a whole number"), (["--bits", 0], "bits is 0. Give a whole number"),
    (["--bits", "8.5"], "--bits is '8.5'. Give a whole number"),
    (["--sparsity", 1.5], "sparsity 1.5"), (["--sparsity", -1], "sparsity -1.0"),
    (["--sparsity", "nan"], "sparsity nan"),
    (["--dt", 0], "dt is 0.0"), (["--dt", -1], "dt is -1.0"), (["--dt", "nan"], "dt is nan"),
    (["--dt", "inf"], "dt is inf"), (["--method", "foo"], "unknown method 'foo'"),
    (["--preset", "foo"], "unknown preset 'foo'"), (["--reset", "foo"], "'foo' is not one of"),
    (["--seed", -1], "seed is -1"), (["--foo"], "No such option"),
    (["--target", "loihi9"], "unknown target 'loihi9'. Did you mean 'loihi2'?"),
    (["--target", "none.yaml"], "No such file"),
    (["--out", EXAMPLE], "it exists and is no bundle"), (["--out", DIGITS], "it exists and is no bundle"),
    (["--out", DIGITS / "x" / "y"], "can not be written"),
])
def test_a_bad_option_of_deploy_is_refused(
    options: list[object], sentence: str, data: Path, tmp_path: Path, run: Run
) -> None:
    shipped = everything(EXAMPLE)
    found = refused(run, tmp_path, "deploy", DIGITS, *TO, "--data", data, "--out", tmp_path / "b", *options)
    assert sentence in found
    assert everything(EXAMPLE) == shipped


def test_bad_options_of_the_other_verbs_are_refused(data: Path, bundle: Path, tmp_path: Path, run: Run) -> None:
    events = tmp_path / "events.bin"
    events.write_bytes(bytes(10))  # two events, of five bytes each
    for arguments, sentence in (
        (["check", DIGITS, *TO, "--bits", 99], "bits is 99"),
        (["check", DIGITS, *TO, "--sparsity", "nan"], "sparsity is nan"),
        (["check", DIGITS], "no chip is given. Give --target NAME"),
        (["simulate", DIGITS], "Missing option '--data'"),
        (["simulate", DIGITS, "--data", data, "--engine", "foo"], "'foo' is not one of"),
        (["simulate", DIGITS, "--data", data, "--engine", "lava"], "this is no bundle"),
        (["simulate", DIGITS, "--data", data, "--engine", "emulator"], "this is no bundle"),
        (["simulate", bundle, "--data", data, "--engine", "emulator", "--dt", 1], "takes no --preset, --dt or --reset"),
        (["simulate", DIGITS, "--data", data, "--record", "foo", "bar"], "node 'bar': no such node to record"),
        (["simulate", bundle, "--data", data, "--engine", "emulator", "--record", "foo"], "node 'foo': no such"),
        (["simulate", bundle, "--data", data, "--engine", "lava", "--record", "foo"], "node 'foo': no such"),
        (["simulate", DIGITS, "--data", data, "--out", DIGITS / "o.npz"], "it can not be written"),
        (["simulate", DIGITS, "--data", data, "--out", tmp_path], "it can not be written"),
        (["inspect", DIGITS, "--dt", 0, "--preset", "foo"], "dt is 0.0"),
        (["targets", "foo"], "unknown target 'foo'"),
        (["foo"], "No such command 'foo'"),
        (["events", tmp_path / "none", "--dt", 1e-3, "--steps", 5, "--out", tmp_path / "o.npz"], "no such file"),
        (["events", events, "--dt", 0, "--steps", 5, "--out", tmp_path / "o.npz"], "dt 0.0 and 5 steps"),
        (["events", events, "--dt", "nan", "--steps", 5, "--out", tmp_path / "o.npz"], "dt nan and 5 steps"),
        (["events", events, "--dt", 1, "--steps", 0, "--out", tmp_path / "o.npz"], "steps"),
        (["events", events, "--dt", 1, "--steps", 5, "--out", DIGITS / "o.npz"], "it can not be written"),
        (["events", events, "--dt", 1, "--steps", 5, "--shape", "1,2", "--out", tmp_path / "o.npz"], "--shape is"),
        (["events", DIGITS, "--dt", 1, "--steps", 5, "--out", tmp_path / "o.npz"], "no known event format"),
    ):
        assert sentence in refused(run, tmp_path, *arguments)


def test_every_error_of_a_profile_is_named_at_once(tmp_path: Path, run: Run) -> None:
    text = profile_text("loihi2")
    bad = text.replace("value: 128, unit: cores", "value: many, unit: cores").replace("kind: wall", "kind: wal", 1)
    (tmp_path / "bad.yaml").write_text(bad.replace("year: 2021", "yaer: 2021"))
    (tmp_path / "syntax.yaml").write_text("name: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    found = refused(run, tmp_path, "check", DIGITS, "--target", tmp_path / "bad.yaml")
    for part in ("topology.cores_per_chip", "core.axons_in.kind", "'yaer'", "'year'", "line "):
        assert part in found
    for name, sentence in (("syntax", "not valid YAML"), ("empty", "holds no profile"), ("binary", "is not text")):
        assert sentence in refused(run, tmp_path, "check", DIGITS, "--target", tmp_path / f"{name}.yaml")


# ---------------------------------------------------------------------------------------------------- bundles


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_text("garbage {")


@pytest.mark.parametrize(("part", "damage", "engine", "sentence"), [
    ("integer.npz", cut, "emulator", "integer.npz"), ("integer.npz", garbage, "lava", "integer.npz"),
    ("integer.npz", Path.unlink, "emulator", "has no integer.npz"),
    ("report.json", garbage, "emulator", "report.json"), ("report.json", cut, "float", "report.json"),
    ("report.json", Path.unlink, "emulator", "this is no bundle"),
    ("report.json", Path.unlink, "float", "it is a folder, and no bundle"),
    ("model.nir", cut, "float", "model.nir"), ("model.nir", Path.unlink, "float", "has no model.nir"),
    ("lava", shutil.rmtree, "lava", "has no lava"), ("lava/program.py", Path.unlink, "lava", "there is no program.py"),
])
def test_a_damaged_bundle_is_refused(
    part: str, damage: Callable[[Path], None], engine: str, sentence: str, bundle: Path, data: Path, tmp_path: Path,
    run: Run
) -> None:
    damage(bundle / part)
    found = refused(run, tmp_path, "simulate", bundle, "--data", data, "--engine", engine)
    assert sentence in found
    if part == "integer.npz":
        assert "Deploy the model again" in found
        assert found == refused(run, tmp_path, "compare", bundle, DIGITS, "--data", data)


def test_networks_for_different_data_are_not_compared(data: Path, tmp_path: Path, run: Run) -> None:
    def wider(nodes: h5py.Group) -> None:
        del nodes["fc1/weight"], nodes["input/shape"]
        nodes["fc1/weight"] = np.zeros((128, 70), np.float32)
        nodes["input/shape"] = np.array([70])

    other = edited(tmp_path / "wide.nir", wider)
    found = refused(run, tmp_path, "compare", DIGITS, other, "--data", data)
    assert "A takes inputs of shape (64,), B of (70,)" in found


# ------------------------------------------------------------------------------------- runs that end too early


@pytest.mark.parametrize(("error", "status"), [
    (KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2), (MemoryError(), 2), (RuntimeError("x"), 3),
])
def test_a_run_that_dies_while_writing_leaves_the_previous_bundle_whole(
    error: BaseException, status: int, bundle: Path, data: Path, tmp_path: Path, run: Run,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise error

    before = everything(tmp_path)
    monkeypatch.setattr("neurocompress.chip.on_chip.integer_file.save", dies)
    for out in (bundle, tmp_path / "new"):
        seen = run("deploy", DIGITS, *TO, "--data", data, "--method", "rtn", "--bits", 4, "--out", out)
        assert seen.status == status
        assert everything(tmp_path) == before


def test_a_bundle_that_can_not_be_moved_into_place_puts_the_old_one_back(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names can not be exchanged in one step there are two renames, and the second may fail."""
    before = everything(tmp_path)
    real, calls = os.rename, []

    def third_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", third_fails)
    monkeypatch.setattr("neurocompress.files.whole.exchange", lambda a, b: False)
    with pytest.raises(neurocompress.errors.Refused, match="Input/output error"), bundles.written(bundle) as made:
        (made / "report.json").write_text("{}")
    assert len(calls) == 4
    assert everything(tmp_path) == before


def test_a_simulation_that_dies_while_writing_spares_the_file_that_was_there(
    data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.npz"
    np.savez(out, output=np.ones(3))

    def dies(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", dies)
    assert "No space left on device" in refused(run, tmp_path, "simulate", DIGITS, "--data", data, "--out", out)


def test_a_new_deployment_replaces_the_old_one(bundle: Path, data: Path, tmp_path: Path, run: Run) -> None:
    seen = run("deploy", DIGITS, *TO, "--data", data, "--method", "rtn", "--bits", 4, "--out", bundle, "--json")
    assert seen.status == 0
    assert {layer["bits"] for layer in seen.json["layers"]} == {4}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
