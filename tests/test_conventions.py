"""What a user says about how a model is read: single conventions over those of a preset or a file, in every verb."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import nir
import numpy as np
import pytest
from cli_runner import Run
from hypothesis import given, settings
from hypothesis import strategies as st

import neurocompress as nc
from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network.conventions import CHOICES, IGNORABLE, PRESETS, Conventions, overrides, preset, shown
from neurocompress.targets.nir import write

CONVENTIONS = [f.name for f in fields(Conventions)]


def values(name: str) -> st.SearchStrategy[object]:
    if name == "dt":
        return st.floats(1e-9, 1e3)
    if name in CHOICES:
        return st.sampled_from(CHOICES[name])
    if name == "ignore":
        return st.lists(st.sampled_from(IGNORABLE), unique=True).map(tuple)
    return st.booleans() if isinstance(getattr(Conventions(), name), bool) else st.integers(0, 999)


@settings(deadline=None)
@given(st.data())
def test_every_convention_is_read_back_from_the_text_that_notes_show(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(CONVENTIONS), unique=True))
    given_values = {name: data.draw(values(name)) for name in names}
    texts = [f"{name}={shown(value)}" for name, value in given_values.items()]
    assert overrides(texts) == overrides(given_values) == given_values


@pytest.mark.parametrize(("text", "sentence"), [
    ("floor=true", "unknown convention 'floor'"), ("v_floor=maybe", "v_floor is 'maybe'. Use true or false"),
    ("v_floor=1", "v_floor is 1. Use true or false"), ("reset=soft", "reset is 'soft'. Use zero or subtract"),
    ("synaptic_delay=1.5", "synaptic_delay is 1.5"), ("synaptic_delay=-1", "synaptic_delay is -1"),
    ("dt=0", "dt is 0"), ("dt=nan", "dt is nan"), ("dt=fast", "dt is 'fast'"), ("dt=true", "dt is True"),
    ("ignore=w_out", "ignore is ('w_out',)"),
    ("v_floor", "'v_floor' is no NAME=VALUE"), ("=1", "unknown convention ''"),
])
def test_a_wrong_convention_is_a_sentence_that_says_what_is_right(text: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        overrides([text])
    assert sentence in str(refused.value)


def test_all_that_is_wrong_is_said_at_once_and_nothing_may_be_given_twice() -> None:
    with pytest.raises(Refused) as refused:
        overrides(["v_floor=x", "nothing=1", "dt=1e-3", "fire=>"], preset="foo", dt=2e-3, reset="soft")
    assert len(refused.value.problems) == 5
    assert "dt is given twice, as 0.001 and as 0.002" in str(refused.value)
    assert overrides("dt=1e-3", dt=1e-3) == {"dt": 1e-3}, "the same twice is once, and one text is a list of one"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    lif = nir.LIF(tau=np.full(5, 4e-3), r=np.ones(5) * 4, v_leak=np.zeros(5), v_threshold=np.ones(5))
    graph = nir.NIRGraph(
        {"input": nir.Input(np.array([6])), "fc": nir.Linear(rng.normal(size=(5, 6))), "lif": lif,
         "output": nir.Output(np.array([5]))}, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    nir.write(tmp_path / "m.nir", graph)
    np.savez(tmp_path / "d.npz", spikes=(rng.random((4, 30, 6)) < 0.5).astype(np.uint8))
    return tmp_path / "m.nir"


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_convention_goes_before_the_preset_and_leaves_the_others(model: Path, name: str) -> None:
    network = read(model, preset=name, dt=1e-3, convention=["fire=>=", "synaptic_delay=2"])
    assert network.conventions == replace(preset(name), dt=1e-3, fire=">=", synaptic_delay=2)
    assert "fire = >=, given by the user." in network.notes
    assert "synaptic_delay = 2, given by the user." in network.notes


def test_a_convention_goes_before_the_file_and_says_what_the_file_says(model: Path, tmp_path: Path) -> None:
    write(read(model, preset="sinabs", dt=1e-3), tmp_path / "s.nir")
    network = read(tmp_path / "s.nir", convention={"v_floor": False})
    assert network.conventions == replace(preset("sinabs"), dt=1e-3, v_floor=False)
    assert "v_floor = false, given by the user, where the file says true." in network.notes
    write(network, tmp_path / "t.nir")
    assert read(tmp_path / "t.nir").conventions == network.conventions, "what was given travels with the file"


def test_every_verb_takes_conventions_and_a_bundle_is_compared_as_it_was_read(
    model: Path, tmp_path: Path, run: Run
) -> None:
    data, fire = tmp_path / "d.npz", ("--dt", "1e-3", "--convention", "reset=subtract", "--convention", "fire=>=")
    asked = {"dt": 1e-3, "reset": "subtract", "fire": ">="}

    def done(*arguments: object) -> dict:
        found = run(*arguments, "--json")
        assert found.status == 0, found.err
        return found.json

    assert done("inspect", model, *fire)["conventions"] == asdict(Conventions(**asked)) | {"ignore": []}
    assert "fire" not in done("check", model, "--target", "loihi2", *fire)
    out = tmp_path / "bundle"
    made = done("deploy", model, "--target", "loihi2", "--data", data, "--out", out, *fire)
    assert made["conventions"]["fire"] == ">="
    assert made["options"]["convention"] == {"reset": "subtract", "fire": ">="}
    compared = done("compare", model, out, "--data", data)
    assert any("dt 0.001, reset subtract, fire >=" in note for note in compared["notes"])
    other = done("compare", model, out, "--data", data, "--convention", "decay=exponential", "--dt", "1e-3")
    assert any("read with decay exponential, dt 0.001" in note for note in other["notes"])
    done("compress", model, "--data", data, "--bits", 4, "--out", tmp_path / "c.nir", *fire)
    assert read(tmp_path / "c.nir").conventions == Conventions(**asked)
    done("simulate", model, "--data", data, "--out", tmp_path / "r.npz", *fire)
    spikes = np.load(data)["spikes"]
    want = nc.simulate(model, data, convention=asked).arrays["output"]
    np.testing.assert_array_equal(np.load(tmp_path / "r.npz")["output"], want)
    assert want.sum() > 0
    assert spikes.shape[:2] == want.shape[:2]
    assert run("simulate", out, "--data", data, "--engine", "emulator", "--convention", "fire=>").status == 2
