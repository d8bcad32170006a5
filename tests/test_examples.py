"""Examples under --help: every flag parses, and those on the shipped digits run as they stand."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from cli_runner import EXAMPLE, Run

from neurocompress.chip.profile.load import profile_names
from neurocompress.cli import cli, spread_record
from neurocompress.data.spikes import load_spikes
from neurocompress.examples import EXAMPLES
from neurocompress.network.conventions import PRESETS

LINES = [line for verb, examples in EXAMPLES.items() if verb in ("", *cli.commands) for _, line in examples]
#: Nobody without their files, or without Lava, can run these.
FOREIGN = ("model.nir", "nmnist/", "my-chip.yaml", "lava")


def shown(text: str) -> list[str]:
    """The commands under "Examples:", each as one line, as a shell reads them."""
    return [line.strip() for line in text.partition("Examples:\n")[2].replace("\\\n", " ").splitlines()
            if not line.strip().startswith("#") and line.strip()]


@pytest.mark.parametrize("columns", ["80", "110"])
def test_every_verb_shows_its_examples_as_they_are(columns: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for verb in ("", *cli.commands):
        text = run(*([verb] if verb else []), "--help").out
        assert [shlex.split(line) for line in shown(text)] == [
            shlex.split(f"neurocompress {line}") for _, line in EXAMPLES[verb]], verb
        assert all(len(line) < 80 for line in text.partition("Examples:")[2].splitlines()), verb


@pytest.mark.parametrize("line", LINES)
def test_every_flag_of_an_example_parses(line: str) -> None:
    name, *arguments = spread_record(shlex.split(line))
    context = cli.commands[name].make_context(name, arguments)  # parses and checks; runs nothing
    assert context.params.get("target") in (None, *profile_names())
    assert context.params.get("preset") in (None, *PRESETS)


def test_those_on_the_shipped_example_run_one_after_the_other(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples" / "digits").mkdir(parents=True)
    for file in ("digits.nir", "digits_calibration.npz", "digits_test.npz"):
        shutil.copy(EXAMPLE / file, tmp_path / "examples" / "digits" / file)
    few = tmp_path / "examples" / "digits" / "digits_test.npz"
    load_spikes(few).first(60).save(few)  # the same file, shorter: what runs is the line itself
    monkeypatch.chdir(tmp_path)
    ran = 0
    for line in dict.fromkeys(line for line in LINES if not any(part in line for part in FOREIGN)):
        if line.split()[0] in cli.commands:
            seen = run(*shlex.split(line))
            assert seen.status == 0, (line, seen.err, seen.out[:300])
            ran += 1
    assert ran >= 15
