"""What Python prints of a result fits on a screen and says what it is; compress(...).save(path) writes it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

import neurocompress as nc
from neurocompress.chip.profile.load import load_profile, profile_names
from neurocompress.data.spikes import SpikeData, load_spikes
from neurocompress.shown import COLUMNS, LINES, listed, value


@pytest.fixture(scope="module")
def digits() -> SpikeData:
    return load_spikes(EXAMPLE / "digits_test.npz").first(20)


def long_graph(layers: int) -> nir.NIRGraph:
    """Many small layers with long names, on which nothing fits."""
    rng = np.random.default_rng(0)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array([6]))}
    for k in range(layers):
        nodes[f"encoder.block{k}.with.a.name.that.goes.on.linear"] = nir.Linear(rng.normal(size=(6, 6)).astype("f4"))
        nodes[f"encoder.block{k}.with.a.name.that.goes.on.spikes"] = nir.IF(np.ones(6), np.full(6, 0.7))
    nodes["output"] = nir.Output(np.array([6]))
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def fits_on_a_screen(found: Any) -> str:
    text = repr(found)
    lines = text.split("\n")
    assert len(lines) <= LINES < 25, text
    assert all(len(line) <= COLUMNS for line in lines), text
    assert "array(" not in text
    return text


def test_every_result_fits_on_a_screen_and_says_what_matters(digits: SpikeData, tmp_path: Path) -> None:
    fit, (again, found) = nc.check(DIGITS, "loihi1"), nc.check_compressed(DIGITS, "loihi1")
    made = nc.deploy(DIGITS, "loihi2", data=digits, method="rtn", out=tmp_path / "b")
    run, both = nc.simulate(DIGITS, digits), nc.compare(DIGITS, tmp_path / "b", digits)
    small = nc.compress(DIGITS, digits, method="rtn", bits=4)
    on_chip = nc.compress(DIGITS, digits, target="loihi2", method="rtn")
    network = nc.load(DIGITS)
    for thing, parts in (
            (network, ["138 neurons", "9,610 parameters", "lif1", "LIF 128", "reset zero"]),
            (network.nodes["fc1"], ["Linear", "float32 (128, 64)"]), (network.nodes["lif1"], ["tau_mem", "of 0.016"]),
            (network.conventions, ["dt=0.001"]), (fit, ["Intel Loihi 1: fits, 1 of 128 cores", "fc1 -> lif1", "8 bit"]),
            (fit.rows[0], ["fc1"]), (fit.plan, ["2 connections"]), (again, ["fits"]), (found, ["Fits with 8 bit"]),
            (made, ["fits (estimate)", "2 cores", "bundle in", "emulated", "lif1: 128 neurons"]),
            (made.report, ["20 samples of 32 steps", "accuracy: float"]), (made.integer, ["lif1: 128"]),
            (made.compressed, ["Intel Loihi 2 by rtn", "8,192 weights"]), (on_chip, ["Intel Loihi 2 by rtn"]),
            (small, ["by rtn", "zero", "fc1: 8,192 weights", "4 bit"]), (small.layers["fc1"], ["128 x 64"]),
            (small.recipe, ["method='rtn'", "bits=4"]), (run, ["20 samples of 32 steps", "accuracy", "(20, 32, 10)"]),
            (both, ["given the same class", "lif1"]), (both.runs[0], ["lif1", "never spiked"]),
            (digits, ["20 samples of 32 steps", "input 64", "uint8", "labels 0 to 9"]),
            (SpikeData(digits.spikes, None, "x"), ["no labels"]),
            *((load_profile(name), [name]) for name in profile_names())):
        text = fits_on_a_screen(thing)
        assert all(part in text.replace("\n    ", " ") for part in parts), (text, parts)


def test_it_fits_for_a_network_of_forty_layers_that_does_not_fit() -> None:
    graph = long_graph(40)
    network, fit = nc.load(graph), nc.check(graph, "truenorth")
    assert not fit.fits
    assert "more" in fits_on_a_screen(network)
    text = fits_on_a_screen(fit)
    assert fit.verdict in text
    assert "NC" in text  # what is broken is there beside all those rows
    compressed = nc.compress(graph, None, method="magnitude", sparsity=0.5)
    assert "... and " in fits_on_a_screen(compressed)
    assert fits_on_a_screen(fit.plan)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300), st.lists(st.lists(st.text(max_size=250), max_size=40), max_size=4))
def test_any_lines_at_all_fit(head: str, groups: list[list[str]]) -> None:
    lines = listed(head, *groups).split("\n")
    assert len(lines) <= LINES
    assert all(len(line) <= COLUMNS and line.isprintable() for line in lines)


def test_a_short_group_is_whole_and_a_long_one_says_how_much_is_left() -> None:
    found = listed("head", [f"row {k}" for k in range(100)], ["broken 1", "broken 2"]).split("\n")
    assert found[:2] == ["head", "  row 0"]
    assert found[-2:] == ["  broken 1", "  broken 2"]
    shown = sum(line.startswith("  row") for line in found)
    assert found[shown + 1] == f"  ... and {100 - shown} more"
    assert value(np.zeros((3, 4))) == "float64 (3, 4) of 0"
    assert value(np.array([1.0, 2.0])) == "float64 (2,)"


def test_a_compressed_network_is_saved_by_its_own_method(digits: SpikeData, tmp_path: Path) -> None:
    made = nc.compress(DIGITS, digits, method="rtn", bits=4)
    made.save(tmp_path / "small.nir")
    again = nc.load(tmp_path / "small.nir")
    np.testing.assert_array_equal(nc.simulate(again, digits).arrays["output"],
                                  nc.simulate(made.network, digits).arrays["output"])
    made.save(str(tmp_path / "second.nir"))
    on_chip = nc.compress(DIGITS, digits, target="loihi2", method="rtn")
    on_chip.save(tmp_path / "chip.nir")
    facts = nc.load(tmp_path / "chip.nir").metadata["fc1"]
    step = np.asarray(facts["quant_weight_scale"])
    np.testing.assert_allclose(np.asarray(facts["quant_weight_int"]) * step.reshape(-1, 1),
                               nc.load(tmp_path / "chip.nir").nodes["fc1"].weight, rtol=1e-6)  # type: ignore[union-attr]
    with pytest.raises(nc.errors.Refused, match="can not be written"):
        made.save(tmp_path / "none" / "x.nir")
