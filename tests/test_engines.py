"""deploy, its report and its bundle for every form of arithmetic, on the example network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import runner

from neurocompress.errors import Refused
from neurocompress.verbs.compare import compare
from neurocompress.verbs.deploy import deploy
from neurocompress.verbs.simulate import simulate

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = Path(__file__).parents[1] / "examples/digits"
MODEL, DATA = DIGITS / "digits.nir", DIGITS / "digits_calibration.npz"
#: By form of arithmetic: a chip, and points of accuracy that it may lose.
CHIPS = {"loihi": ("loihi2", 1.0), "float-state": ("spinnaker2", 1.0), "integer": ("tianjic", 1.0),
         "analog": ("brainscales2", 3.0)}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """120 samples of the example's data."""
    given = np.load(DATA)
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, spikes=given["spikes"][:120], labels=given["labels"][:120])
    return path


@pytest.mark.parametrize("form", CHIPS)
def test_every_form_is_emulated_reported_and_runs_from_its_bundle(few, tmp_path, form):
    target, most = CHIPS[form]
    made = deploy(MODEL, target, data=few, out=tmp_path / "b", method="rtn")
    accuracy = made.report.accuracy
    assert list(accuracy) == ["float", "compressed", "emulated"]
    assert accuracy["float"] > 95
    assert accuracy["float"] - accuracy["emulated"] <= most
    again = simulate(tmp_path / "b", few, engine="emulator", record=["lif1"])
    assert again.accuracy == accuracy["emulated"]
    both = compare(MODEL, tmp_path / "b", few)
    assert both.accuracy == (accuracy["float"], accuracy["emulated"])
    for change, layer in zip(both.populations, made.report.layers, strict=True):
        assert (change.population, change.mismatches) == (layer.population, layer.mismatches)


def test_virtual_chips_are_in_the_report_and_the_same_every_time(few, tmp_path):
    found = []
    for k in range(2):
        made = deploy(MODEL, "brainscales2", data=few, out=tmp_path / str(k), method="rtn", seed=5)
        found.append(json.loads((tmp_path / str(k) / "report.json").read_text())["virtual_chips"])
        assert found[k]["accuracy_mean"] == made.report.virtual.accuracy_mean
    assert found[0] == found[1]
    virtual = found[0]
    assert (virtual["chips"], virtual["samples"]) == (20, 60)  # half of the data calibrated
    assert virtual["accuracy_worst"] < virtual["accuracy_mean"] <= 100
    assert virtual["accuracy_mean"] > made.report.held_out["float"] - 5
    assert 0 < virtual["accuracy_deviation"] < 5
    assert virtual["agreement_worst"] <= virtual["agreement_mean"]


def test_without_labels_virtual_chips_agree_or_not(few, tmp_path):
    np.savez(tmp_path / "unlabelled.npz", spikes=np.load(few)["spikes"])
    virtual = deploy(MODEL, "brainscales2", data=tmp_path / "unlabelled.npz", method="rtn").report.virtual
    assert (virtual.accuracy_mean, virtual.accuracy_worst, virtual.accuracy_deviation) == (None, None, None)
    assert 90 < virtual.agreement_mean < 100


def test_a_chip_of_unknown_arithmetic_is_not_emulated(few, tmp_path):
    made = deploy(MODEL, "speck2f", data=few, out=tmp_path / "b", method="rtn")
    assert list(made.report.accuracy) == ["float", "compressed"]
    assert made.report.virtual is None
    assert any("neurons are not emulated" in note for note in made.report.assumptions)
    with pytest.raises(Refused, match="not public, so nothing emulates it"):
        simulate(tmp_path / "b", few, engine="emulator")
    assert simulate(tmp_path / "b", few).accuracy == made.report.accuracy["compressed"]


def test_what_was_assumed_about_a_chip_is_in_its_report(few):
    made = deploy(MODEL, "tianjic", data=few, method="rtn")
    assert sum("assumed, not public" in note for note in made.report.assumptions) == 7


def test_people_are_shown_mean_and_worst(few, tmp_path, capsys):
    text = runner(capsys)("deploy", MODEL, "--target", "brainscales2", "--data", few, "--out", tmp_path / "b",
                          "--method", "rtn").out
    assert "20 virtual chips with mismatch, 60 samples" in text
    assert "on the worst" in text


def test_a_profile_of_ones_own_is_emulated_with_its_own_numbers(few, tmp_path):
    """A membrane of 6 bits is narrow for the example: weights take few levels, which costs accuracy."""
    (tmp_path / "narrow.yaml").write_text("""
extends: tianjic
name: narrow
arithmetic:
  state_bits: {value: 6, unit: bits, source: "made up for this test", confidence: documented, kind: wall}
  threshold_bits: {value: 6, unit: bits, source: "made up for this test", confidence: documented, kind: wall}
""")
    made = deploy(MODEL, tmp_path / "narrow.yaml", data=few, out=tmp_path / "b", method="rtn")
    assert made.integer.arithmetic.state_bits == 6
    assert not any(layer.v_clipped for layer in made.report.layers)  # twice the potentials seen have room
    assert all(0 < np.max(p.vth) < 2**5 for p in made.integer.populations)
    assert made.report.accuracy["emulated"] < made.report.accuracy["float"] - 1
    assert sum("assumed, not public" in note for note in made.report.assumptions) == 5
    assert simulate(tmp_path / "b", few, engine="emulator").accuracy == made.report.accuracy["emulated"]
