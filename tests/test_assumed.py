"""What could only be assumed is said aloud by every verb, with the flag to give and with what the other reading would
change; presets say what they assume and how that is known."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import nir
import numpy as np
import pytest
from cli_runner import Run

from neurocompress.chip.profile.features import features, with_conventions
from neurocompress.chip.profile.load import load_profile, profile_names
from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.frontends.nir_conventions import KEY, KEY_ASSUMED
from neurocompress.network.conventions import PRESETS, Conventions, overrides
from neurocompress.network.presets import MEANINGS, PRESET_FACTS, details, flag
from neurocompress.simulation.float import simulate
from neurocompress.verbs.deploy import deploy

ROOT = Path(__file__).resolve().parents[1]
#: Before the shell has taken the quotes away.
FLAG = re.compile(r"--convention '?([a-z_]+=[^', ]*)|--reset (zero|subtract)")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two layers of LIF neurons in a file that says nothing of dt or the reset, with 20 samples."""
    rng = np.random.default_rng(7)

    def lif(n: int) -> nir.LIF:
        return nir.LIF(tau=np.full(n, 2e-3), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.full(n, 0.05))

    graph = nir.NIRGraph(
        {"input": nir.Input(np.array([6])), "fc": nir.Linear(rng.normal(0.3, 1, size=(8, 6))), "a": lif(8),
         "fc2": nir.Linear(rng.normal(0.3, 1, size=(4, 8))), "b": lif(4), "output": nir.Output(np.array([4]))},
        [("input", "fc"), ("fc", "a"), ("a", "fc2"), ("fc2", "b"), ("b", "output")])
    nir.write(tmp_path / "m.nir", graph)
    np.savez(tmp_path / "d.npz", spikes=(rng.random((20, 30, 6)) < 0.5).astype(np.uint8))
    return tmp_path / "m.nir"


def differing(a, b, spikes: np.ndarray) -> tuple[int, int, int]:
    """Spikes of the output that differ, spikes of the first, samples of another class, of the first 16 samples."""
    one, other = (simulate(network, spikes[:16])["output"] for network in (a, b))
    classes = [found.sum(axis=1).argmax(axis=1) for found in (one, other)]
    return int(np.abs(one - other).sum()), int(one.sum()), int(np.sum(classes[0] != classes[1]))


def test_every_verb_says_aloud_once_what_is_assumed_and_what_the_other_reading_changes(
    model: Path, tmp_path: Path, run: Run
) -> None:
    data = tmp_path / "d.npz"
    spikes = np.load(data)["spikes"]
    own = read(model)
    assert own.assumed == ("dt", "reset")
    d, n, c = differing(own, replace(own, conventions=replace(own.conventions, reset="subtract")), spikes)
    assert d > 0
    reset = f"With --reset subtract {d:,} spikes of 'b' differ (it sends {n:,}) and {c} of 16 samples get another class"
    d, n, c = differing(own, replace(own, conventions=replace(own.conventions, dt=1e-3)), spikes)
    dt = f"With --dt 0.001 {d:,} spikes of 'b' differ (it sends {n:,}) and {c} of 16 samples get another class"
    # the order in which deploy draws its calibration is its own, so its numbers are of other samples
    with_data: list[tuple[list[object], bool]] = [
        (["simulate", model, "--data", data], True), (["compare", model, model, "--data", data], True),
        (["compress", model, "--data", data, "--bits", 8, "--out", tmp_path / "c.nir"], True),
        (["deploy", model, "--target", "loihi2", "--data", data, "--out", tmp_path / "b"], False)]
    without: list[list[object]] = [["inspect", model], ["check", model, "--target", "loihi2"],
                                   ["check", model, "--target", "loihi2", "--fit"]]
    for arguments in [*(a for a, _ in with_data), *without]:
        for extra in ([], ["--json"]):
            if arguments[0] == "deploy" and extra:
                arguments = [*arguments[:-1], tmp_path / "b2"]
            seen = run(*arguments, *extra)
            assert seen.status in (0, 1), seen.err
            for name in ("reset = zero", "dt = 0.0001 s"):
                assert seen.err.count(f"warning: ASSUMED: {name}") == 1, (arguments, seen.err)
            if not extra:
                assert "ASSUMED" not in seen.out, "said once, and not again among the notes"
    for arguments, exact in with_data[:3]:
        seen = run(*arguments)
        assert (reset in seen.err and dt in seen.err) == exact, seen.err
    assert "With --reset subtract" in run(*with_data[3][0][:-1], tmp_path / "b3").err
    quiet = run("simulate", model, "--data", data, "--reset", "zero", "--dt", "1e-4")
    assert quiet.status == 0
    assert "ASSUMED" not in quiet.err + quiet.out
    assert "ASSUMED" not in run("check", model, "--target", "loihi2", "--preset", "snntorch").err


def test_a_file_that_was_written_still_says_what_was_only_assumed(model: Path, tmp_path: Path, run: Run) -> None:
    """Through compress, through compress again, and in the model of a bundle; what was given is stated."""
    data, small, smaller, bundle = tmp_path / "d.npz", tmp_path / "s.nir", tmp_path / "t.nir", tmp_path / "b"
    flags = ("--data", data, "--bits", 8)
    assert run("compress", model, *flags, "--out", small).status == 0
    assert run("compress", small, *flags, "--out", smaller).status == 0
    assert run("deploy", model, "--target", "loihi2", "--data", data, "--out", bundle).status == 0
    for file in (small, smaller, bundle):
        seen = run("inspect", file)
        for name in ("reset = zero", "dt = 0.0001 s"):
            assert seen.err.count(f"warning: ASSUMED: {name}") == 1, (file, seen.err)
    assert read(small).conventions == read(model).conventions
    assert read(small).assumed == ("dt", "reset")
    assert not {KEY, KEY_ASSUMED} & set(read(small).metadata[""])
    # a preset's dt is only a default: it replaces what was assumed, and not what was given
    assert (read(small, preset="norse").conventions.dt, read(small, preset="norse").assumed) == (1e-3, ())
    assert run("compress", model, *flags, "--reset", "zero", "--out", tmp_path / "r.nir").status == 0
    assert read(tmp_path / "r.nir").assumed == ("dt",)
    assert run("compress", model, *flags, "--reset", "zero", "--dt", "1e-4", "--out", tmp_path / "n.nir").status == 0
    assert read(tmp_path / "n.nir").assumed == ()
    assert read(tmp_path / "n.nir", preset="norse").conventions.dt == 1e-4
    seen = run("inspect", tmp_path / "n.nir")
    assert "ASSUMED" not in seen.err + seen.out


@pytest.mark.parametrize("text", ["", "dt", "reset", "reset,dt", "gain", "dt;reset", 3, np.zeros(2)])
def test_what_a_file_says_was_assumed_is_a_list_of_names(model: Path, text: object) -> None:
    graph = nir.read(model)
    graph.metadata |= {KEY: json.dumps(Conventions(dt=1e-4).to_dict()), KEY_ASSUMED: text}
    if isinstance(text, str) and text in ("", "dt", "reset", "reset,dt"):
        assert set(read(graph).assumed) == set(text.split(",")) - {""}
    else:
        with pytest.raises(Refused, match="no list of dt and reset"):
            read(graph)


def test_inspect_gives_the_flag_for_each_assumption_and_the_flag_changes_it(model: Path, run: Run) -> None:
    """Every flag that inspect prints is taken, and the convention has another value then."""
    found = run("inspect", model, "--json").json
    assert set(found["flags"]) == {f.name for f in fields(Conventions)}
    for name in ("dt", "decay", "reset", "fire"):
        (note,) = [note for note in found["notes"] if note.startswith(f"{name} = ")]
        assert note.endswith(f"Change it: {found['flags'][name]}")
    given = run("inspect", model, "--json", "--reset", "zero").json["notes"]
    assert "reset = zero, given by the user." in given


@pytest.mark.parametrize("name", PRESETS)
def test_the_flags_of_a_preset_change_what_they_name(name: str) -> None:
    rule = PRESETS[name]
    assert [row[0] for row in details(name)] == [f.name for f in fields(Conventions)] == list(MEANINGS)
    for convention, _, _, _ in details(name):
        text = flag(convention, getattr(rule, convention))
        if text.split("=")[-1] in ("N", "NAMES") or text == "--dt X":
            continue
        option, reset = FLAG.search(text).groups()
        (value,) = overrides([option] if option else (), reset=reset).values()
        assert value != getattr(rule, convention)


def test_presets_are_listed_and_shown_with_evidence(run: Run) -> None:
    listed = run("presets", "--json").json["presets"]
    assert [row["name"] for row in listed] == list(PRESETS) == list(PRESET_FACTS)
    assert all(row["conventions"] == PRESETS[row["name"]].to_dict() for row in listed)
    assert set(PRESETS) <= set(run("presets").out.split())
    for name in PRESETS:
        seen = run("presets", name)
        assert seen.status == 0
        assert "Evidence" in seen.out
        assert all(convention in seen.out for convention in MEANINGS)
    refused = run("presets", "loihi")
    assert refused.status == 2
    assert "unknown preset 'loihi'. Known presets: nir, norse" in refused.err


def test_the_tables_of_readme_and_docs_say_what_the_presets_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    docs = (ROOT / "docs/conventions.md").read_text(encoding="utf-8")
    for name, facts in PRESET_FACTS.items():
        (row,) = re.findall(rf"^\| `{name}`.*\|$", readme, re.MULTILINE)
        assert row.rstrip("| ").endswith(facts.and_), name
        (line,) = [x for x in docs.splitlines() if x.startswith("| `") and f"`{name}`" in x.split("|")[1]]
        assert line == f"| `{name}` | {facts.evidence} |"


@pytest.mark.parametrize("target", profile_names())
def test_only_a_chip_whose_profile_says_so_resets_behind_the_decay(model: Path, target: str) -> None:
    network, profile = read(model, preset="snntorch"), load_profile(target)
    there, said = with_conventions(network, features(profile), profile.title)
    can, ways = target == "loihi2", features(profile).resets
    assert there.conventions.reset_delay is can
    # where there is no subtraction, the sentence that it became a reset to zero says it all
    assert any("can not reset a neuron in the step after its spike" in note for note in said) is (
        not can and "subtract" in ways)
    zero = replace(network, conventions=replace(network.conventions, reset="zero"))
    assert "zero" not in ways or not with_conventions(zero, features(profile), profile.title)[1], \
        "feedforward neurons that reset to zero give the same spikes with and without the delay"


@pytest.mark.parametrize("target", ["loihi1", "spinnaker2", "tianjic", "brainscales2"])
def test_a_deployment_says_how_many_spikes_a_chip_without_the_delay_costs(model, tmp_path, target) -> None:
    spikes = np.load(tmp_path / "d.npz")["spikes"]
    made = deploy(model, target, data=tmp_path / "d.npz", preset="snntorch", dt=1e-4)
    own = read(model, preset="snntorch", dt=1e-4)
    chip = replace(own.conventions, reset_delay=False, two_phase_reset=False)
    if target == "brainscales2":
        chip = replace(chip, reset="zero")
    (note,) = [note for note in made.report.assumptions if "That alone, before any compression" in note]
    assert "reset_delay false for true" in note
    chosen = made.report.calibration.indices
    d, n, c = differing(own, replace(own, conventions=chip), spikes[list(chosen)])
    few = min(16, len(chosen))
    assert f"{d:,} spikes of 'b' differ (it sends {n:,}) and {c} of {few} samples get another class" in note
    exact = deploy(model, "loihi2", data=tmp_path / "d.npz", preset="snntorch", dt=1e-4).report
    assert not any("That alone" in note for note in exact.assumptions)
