"""Where nothing tells samples from time steps, what was taken is said once; labels settle it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run

from neurocompress import compress, deploy, simulate
from neurocompress.data.spikes import load_spikes

SAID = "the data are read as 6 samples x 16 timesteps x "
VERBS = {"simulate": ["simulate"], "compress": ["compress", "--bits", "4", "--method", "rtn", "--out", "o.nir"],
         "deploy": ["deploy", "--target", "loihi2", "--method", "rtn", "--out", "bundle"]}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six of the shipped digits, 16 steps each: without labels, with them, and with time first."""
    monkeypatch.chdir(tmp_path)
    digits = load_spikes(EXAMPLE / "digits_test.npz").first(6)
    spikes = np.resize(digits.spikes, (6, 16, *digits.input_shape))
    np.savez("bare.npz", spikes=spikes)
    np.savez("labelled.npz", spikes=spikes, labels=digits.labels)
    np.savez("turned.npz", spikes=spikes.swapaxes(0, 1), labels=digits.labels)
    np.savez("turned_bare.npz", spikes=spikes.swapaxes(0, 1))
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_verb_says_once_how_it_read_data_without_labels(verb: str, form: tuple[str, ...], data: Path, run: Run):
    name, *more = VERBS[verb]
    said = {}
    for file in ("bare", "labelled"):
        seen = run(name, DIGITS.resolve(), *more, "--data", f"{file}.npz", *form)
        assert seen.status == 0, seen
        said[file] = " ".join((seen.out + seen.err).split())  # lines are broken at the width of the terminal
    assert said["bare"].count("the data are read as") == 1
    assert SAID in said["bare"]
    assert "numpy.swapaxes(spikes, 0, 1)" in said["bare"]
    assert "the data are read as" not in said["labelled"]


def test_what_is_said_is_what_is_done(data: Path) -> None:
    """Exchanged, the same file is another number of samples: the sentence has it."""
    for file, samples, steps in (("bare", 6, 16), ("turned_bare", 16, 6)):
        found = simulate(DIGITS.resolve(), f"{file}.npz")
        assert (found.samples, found.steps) == (samples, steps)
        assert len(found.arrays["output"]) == samples
        assert sum(f"read as {samples} samples x {steps} timesteps x " in note for note in found.notes) == 1


def test_labels_tell_that_time_is_first_in_every_verb(data: Path, run: Run) -> None:
    for name, *more in VERBS.values():
        seen = run(name, DIGITS.resolve(), *more, "--data", "turned.npz")
        assert seen.status == 2
        assert "6 labels, so time is its first axis" in seen.err
        assert "Exchange them: numpy.swapaxes(spikes, 0, 1)" in seen.err


def test_arrays_and_streams_of_batches_are_said_alike(data: Path) -> None:
    spikes = load_spikes("bare.npz").spikes
    for given in (lambda: spikes, lambda: iter(np.split(spikes, 3))):
        made = (simulate(DIGITS.resolve(), given()).notes,
                compress(DIGITS.resolve(), given(), bits=4, method="rtn").notes,
                deploy(DIGITS.resolve(), "loihi2", data=given(), method="rtn").report.assumptions)
        for notes in made:
            assert sum("6 samples x 16 timesteps" in note for note in notes) == 1, notes
