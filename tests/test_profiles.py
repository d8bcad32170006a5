"""Profiles hold every number with its source, and a wrong profile is refused with file, line and key."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest
from cli_runner import DIGITS, runner

from neurocompress.chip.profile.load import describe, load_profile, profile_names, profile_text
from neurocompress.chip.profile.memory_formulas import ESTIMATES, FORMULAS
from neurocompress.chip.profile.schema import entries
from neurocompress.errors import Refused


@pytest.mark.parametrize("name", profile_names())
def test_every_number_of_an_installed_profile_has_a_source(name: str) -> None:
    for row in describe(load_profile(name)):
        assert len(row["source"]) > 5, row
        assert "@" not in row["source"].replace(" @", ""), row
        assert (row["value"] is None) == (row["confidence"] == "unknown"), row


def test_the_loihi_numbers_are_those_of_their_sources() -> None:
    one, two = load_profile("loihi1"), load_profile("loihi2")
    assert (one.cores, two.cores) == (128, 128)
    assert (one.core.neurons.value, two.core.neurons.value) == (1024, 8192)
    assert one.core.synapse_memory.bits == 16384 * 64 == 128 * 1024 * 8
    assert one.core.memory_bits == 16383 * 64
    assert two.core.memory_bits == 192 * 1024 * 8
    assert one.core.axons_in is not None
    assert one.core.axons_in.value == 4096
    assert two.core.axons_in is not None
    assert two.core.axons_in.value is None
    assert 7 not in (one.weights.bits.value or [])
    assert (one.neurons.graded_spikes.value, two.neurons.graded_spikes.value) == (0, 24)
    assert (one.neurons_per_neuron("subtract"), two.neurons_per_neuron("subtract")) == (2, 1)
    for arithmetic in (one.arithmetic, two.arithmetic):
        assert (arithmetic.state_bits, arithmetic.decay_bits, arithmetic.threshold_bits) == (24, 12, 17)
        assert arithmetic.source


def test_weight_ranges_are_those_of_the_chip() -> None:
    profile = load_profile("loihi2")
    assert profile.weight_range(8, "mixed") == (-256, 254, 2)
    assert profile.weight_range(8, "excitatory") == (0, 255, 1)
    assert profile.weight_range(8, "inhibitory") == (-255, 0, 1)
    assert profile.weight_range(4, "mixed") == (-256, 224, 32)
    assert profile.weight_range(1, "excitatory") == (0, 128, 128)
    with pytest.raises(Refused, match="9 bits"):
        profile.weight_range(9, "mixed")
    assert load_profile("brainscales2").weight_range(6, "mixed") == (-63, 63, 1)
    assert load_profile("brainscales2").weight_range(6, "inhibitory") == (-63, 0, 1)
    assert load_profile("spinnaker2").weight_range(8, "mixed") == (-127, 127, 1)
    assert load_profile("spinnaker2-16bit").weight_range(16, "mixed") == (-32767, 32767, 1)
    assert load_profile("tianjic").weight_range(8, "mixed") == (-128, 127, 1)
    assert load_profile("spinnaker1").weight_range(16, "mixed") == (-65535, 65535, 1)


def test_no_code_knows_a_chip_by_name() -> None:
    package = Path(str(resources.files("neurocompress")))
    for path in (package / "chip").glob("*.py"):
        code = path.read_text(encoding="utf-8")
        for name in profile_names():
            assert f'"{name}"' not in code.replace(f'("{name}")', ""), path


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(Refused, match=r"Did you mean 'loihi1'.*loihi2"):
        load_profile("lohi1")


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "chip.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused) as caught:
        load_profile(path)
    for problem in caught.value.problems:
        assert problem.file == str(path)
        assert problem.fix
    return str(caught.value)


def line_of(text: str, part: str) -> int:
    return next(k for k, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_profile_of_ones_own_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mychip.yaml"
    path.write_text(profile_text("loihi1").replace("name: loihi1", "name: mychip"), encoding="utf-8")
    assert load_profile(path).name == "mychip"
    assert load_profile(str(path)).name == "mychip"


def test_every_error_is_reported_with_its_line_and_key(tmp_path: Path) -> None:
    good = profile_text("loihi1")
    text = good.replace("  axons_in:\n    value: 4096", "  axons_in:\n    value: many")
    text = text.replace("  synapse_memory_reserved:\n    value: 1\n", "  synapse_memory_reserved:\n    valeu: 1\n")
    text = text.replace("title: Intel Loihi 1\n", "")
    text = text.replace('value: 23.6, unit: pJ', 'value: .nan, unit: pJ')
    message = refused(tmp_path, text)
    assert f"line {line_of(text, 'value: many')}, key 'core.axons_in.value'" in message
    assert f"line {line_of(text, 'valeu')}, key 'core.synapse_memory_reserved.valeu'" in message
    assert "Did you mean 'value'?" in message
    assert "key 'core.synapse_memory_reserved.value': key 'value' is missing" in message
    assert "key 'title' is missing" in message
    assert f"line {line_of(text, '.nan')}, key 'energy.per_synaptic_operation.value'" in message


@pytest.mark.parametrize(("old", "new", "message"), [
    ("value: 24, unit: bits", "value: null, unit: bits", "null exactly when confidence is unknown"),
    ('source: "@davies2018; @lava proc/lif/models.py"', 'source: "@nobody1999"', "'@nobody1999' is not in sources"),
    ("value: nxtf-and-nengo-loihi", "value: guesswork", "Known: nxtf-and-nengo-loihi"),
    ("value: [1, 2, 3, 4, 5, 6, 8]", "value: [1, 2]", "default_bits 8 is not among weights.bits"),
    ("value: [1, 2, 3, 4, 5, 6, 8]", "value: [1, 8, 9]", "weights.bits holds 9, more than the 8 of magnitude_bits"),
    ("year: 2018", "year: '2018'", "valid integer"),
    ("  form: loihi", "  form: loihy", "key 'arithmetic': form 'loihy' is not known. Use one of 'loihi'"),
    ("  form: loihi\n", "", "key 'arithmetic': key 'form' is missing"),
    ("vendor: Intel", "vendor: Intel\nvendor: Intel", "key 'vendor' appears twice"),
    ("vendor: Intel", "vendor: &a Intel\nother: *a", "alias"),
    ("vendor: Intel", "vendor: [Intel", "not valid YAML"),
    ("vendor: Intel", "vendor: !!python/object/apply:os.system [ls]",
     "line 5, key 'vendor': YAML reads the value as 'python/object/apply:os.system'"),
    ("activation_shift: {value: 6,", "activation_shift: {value: 10000000000,",
     "key 'arithmetic.activation_shift.value': input should be less than or equal to 62"),
    ("  mixed_sign_bits:\n    value: 1\n", "  mixed_sign_bits:\n    value: 1000000000000\n",
     "key 'weights.mixed_sign_bits.value': input should be less than or equal to 62"),
    ("vendor: Intel", "vendor: 2018-01-16", "key 'vendor': YAML reads the value as 'timestamp'"),
    ("year: 2018", f"year: 0x{'f' * 5000}", "key 'year': the integer 0xffffffffffffffffffffffffffff ... is beyond"),
])
def test_a_malformed_profile_is_refused_with_a_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in refused(tmp_path, profile_text("loihi1").replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "3", "a: b", "\t", "{" * 5000, "[" * 50000, "x: " + "9" * 100_000, "\x00"])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


BOARD = """\
extends: loihi1
name: two-boards
title: Two boards
topology:
  chips: {value: 16, unit: chips, source: "counted on the desk", confidence: derived, kind: budget}
core:
  axons_in: null
"""


def test_a_profile_that_extends_another_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(BOARD, encoding="utf-8")
    found, base = load_profile(path), load_profile("loihi1")
    assert (found.name, found.title, found.vendor) == ("two-boards", "Two boards", "Intel")
    assert (found.topology.chips.value, found.topology.chips.source) == (16, "counted on the desk")
    assert found.cores == 16 * 128
    assert found.core.axons_in is None  # null takes a limit away
    assert found.core.neurons == base.core.neurons
    assert found.topology.boards == base.topology.boards


def test_profiles_extend_files_beside_them_and_each_other(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(BOARD, encoding="utf-8")
    more = tmp_path / "more.yaml"
    more.write_text("extends: two.yaml\nname: more\ntitle: More\n", encoding="utf-8")
    assert load_profile(more).topology.chips.value == 16
    alone = tmp_path / "alone.yaml"
    alone.write_text(profile_text(more), encoding="utf-8")  # what a bundle keeps needs neither of them
    assert load_profile(alone).model_dump(exclude={"extends"}) == load_profile(more).model_dump(exclude={"extends"})
    assert load_profile(alone).extends is None


@pytest.mark.parametrize(("text", "message"), [
    ("extends: chip.yaml\nname: a", r"line 1, key 'extends': it extends itself"),
    ("name: a\nextends: loihi9", r"line 2, key 'extends': 'loihi9' is no installed profile. Name one of brainscales2"),
    ("name: a\nextends: [loihi1]", r"line 2, key 'extends': '' is no installed profile"),
    ("extends: loihi1\nname: a\ntopology:\n  chips: {value: 2}", r"line 4, key 'topology.chips.source'"),
    ("extends: loihi1\nname: a\ncore:\n  axon_in: 3", r"line 4, key 'core.axon_in'.*Did you mean 'axons_in'\?"),
    ("extends: loihi1\nname: a\nsources: {lava: 3}", r"line 3, key 'sources.lava'"),
    ("extends: loihi1\nname: a\nname: b", "appears twice"),
])
def test_errors_of_an_extending_profile_name_its_lines(tmp_path: Path, text: str, message: str) -> None:
    found = refused(tmp_path, text)
    assert re.search(message, found), found


def test_errors_in_what_is_extended_name_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("year: '2018'\n" + BOARD, encoding="utf-8")
    over = tmp_path / "over.yaml"
    over.write_text("extends: base.yaml\nname: over\n", encoding="utf-8")
    with pytest.raises(Refused, match=r"base\.yaml: line 1, key 'year'"):
        load_profile(over)
    (tmp_path / "base.yaml").write_text("extends: over.yaml\n", encoding="utf-8")
    with pytest.raises(Refused, match="extends itself"):
        load_profile(over)
    (tmp_path / "base.yaml").unlink()
    with pytest.raises(Refused, match=r"base\.yaml: cannot be read"):
        load_profile(over)


def test_variants_are_what_their_names_say() -> None:
    chips = {n: load_profile(n).topology.chips.value for n in profile_names() if n.startswith("loihi1")}
    assert chips == {"loihi1": 1, "loihi1-kapoho-bay": 2, "loihi1-nahuku-8": 8, "loihi1-nahuku-32": 32}
    assert (load_profile("spinnaker2").default_bits, load_profile("spinnaker2-16bit").default_bits) == (8, 16)


DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_on_chips_names_every_profile_and_every_formula() -> None:
    page = (DOCS / "chips.md").read_text(encoding="utf-8")
    first = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    named = set(re.findall(r"`([\w-]+)`", " ".join(first)))
    assert named == set(profile_names()) | set(FORMULAS)
    for name in profile_names():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line)
        profile = load_profile(name)
        emulated, memory = (cell.strip() for cell in row.split("|")[4:6])
        assert emulated.startswith("no") == (profile.formats is None), name
        formula = profile.memory.formula.value
        told = "estimate" if formula in ESTIMATES else "not public" if formula is None else "public"
        assert memory.startswith(told) or (name == "speck2f" and memory == "public formula"), name


def test_targets_shows_every_fact_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(capsys)
    listed = run("targets", "--json").json["targets"]
    assert [row["name"] for row in listed] == list(profile_names())
    assert {row["name"] for row in listed if not row["emulated"]} == {"spinnaker1", "truenorth", "speck2f", "xylo-a2"}
    for name in profile_names():
        profile = load_profile(name)
        shown = " ".join(run("targets", name).out.split())
        assert run("targets", name, "--json").json["limits"] == json.loads(json.dumps(describe(profile)))
        for _, entry in entries(profile):
            assert entry.confidence in shown
        for key, text in profile.sources.items():
            assert f"@{key}: {' '.join(text.split())}" in shown
        assert ("unknown" in shown) == any(entry.value is None for _, entry in entries(profile))
        assert (f"a variant of {profile.extends}" in shown) == (profile.extends is not None)


def test_exactly_one_of_target_and_profile_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, own = runner(capsys), tmp_path / "own.yaml"
    own.write_text(profile_text("loihi1").replace("name: loihi1", "name: own"), encoding="utf-8")
    assert run("check", DIGITS, "--profile", own, "--json").json["target"] == "own"
    assert run("deploy", DIGITS, "--profile", own, "--target", "loihi1").status == 2
    neither = run("check", DIGITS)
    assert neither.status == 2
    assert neither.err == ("error: no chip is given. Give --target NAME (see `neurocompress targets`) or "
                           "--profile FILE.yaml\n")
    missing = run("check", DIGITS, "--profile", tmp_path / "none.yaml")
    assert (missing.status, "none.yaml: cannot be read" in missing.err) == (2, True)


def test_an_unknown_unit_of_memory_is_refused(tmp_path: Path) -> None:
    text = profile_text("loihi1").replace("unit: 64-bit words", "unit: furlongs", 1)
    assert "unit" in refused(tmp_path, text)


def test_a_huge_or_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_bytes(b"a" * 300_000)
    with pytest.raises(Refused, match="bytes"):
        load_profile(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match="not text"):
        load_profile(path)
    with pytest.raises(Refused, match="cannot be read"):
        load_profile(tmp_path / "missing.yaml")
    with pytest.raises(Refused, match="cannot be read"):
        load_profile(tmp_path)
