"""Tables at any width, titles of layers whose names are numbers, and every verb at 80 and 60 columns."""

from __future__ import annotations

import re
from pathlib import Path

import nir
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import neurocompress as nc
from neurocompress.data.spikes import load_spikes
from neurocompress.network.titles import titles_of
from neurocompress.report.layout import layout, shortened

#: Numbers as figures.py writes them, whole.
NUMBER = re.compile(r"\d[\d,.]*")


cells = st.text(alphabet="abcdefg_.- 漢é", min_size=1, max_size=30).map(lambda t: " ".join(t.split()) or "x")
numbers = st.one_of(st.integers(0, 10**9).map("{:,}".format), st.integers(0, 10**6).map("{:,} → 7.5 KiB".format),
                    st.integers(0, 1000).map("{} (1.2 %)".format))


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(48, 110))
def test_no_column_is_dropped_and_no_number_cut_at_any_width(data: st.DataObject, width: int) -> None:
    left, right = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 7))
    names = [f"{kind}{k}" for kind, n in (("text", left), ("number", right)) for k in range(n)]
    rows = [[data.draw(cells) for _ in range(left)] + [data.draw(numbers) for _ in range(right)]
            for _ in range(data.draw(st.integers(0, 4)))]
    lines = layout(width, names, rows, left, rows[-1] if rows else None)
    assert all(cell_len(line.text) <= width for line in lines)
    heads = " ".join(line.text for line in lines if line.kind == "head").split()
    assert set(heads) == set(names)
    assert [h for h in heads if h != names[0]] == names[1:]  # each once, in order; the first one in every block
    body = " ".join(line.text for line in lines if line.kind in ("row", "total"))
    for row in rows:
        for cell in row[left:]:
            for piece in re.split(r" (?=→|\()", cell):
                assert piece in body
    for row in rows:
        if all(cell_len(word) <= 10 for word in row[0].split()):
            assert all(word in body for word in row[0].split())


def test_a_table_that_fits_is_as_wide_as_its_cells() -> None:
    rows = [("fc1", "1,280"), ("lif2", "7")]
    lines = [line.text for line in layout(80, ("layer", "neurons"), rows, 1, ("total", "1"))]
    assert lines == ["layer  neurons", "──────────────", "fc1      1,280", "lif2         7", "", "total        1"]


def test_names_keep_both_ends() -> None:
    assert shortened("encoder.block3.conv2.weight", 15) == "encoder….weight"
    assert shortened("short", 15) == "short"
    assert cell_len(shortened("漢" * 30, 15)) == 15


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as nirtorch names them: "0", "1" and so on."""
    graph = nir.read(DIGITS)
    names = {"fc1": "0", "lif1": "1", "fc2": "2", "lif2": "3"}
    path = tmp_path_factory.mktemp("numbered") / "numbered.nir"
    nir.write(path, nir.NIRGraph(
        {names.get(n, n): node for n, node in graph.nodes.items()},
        [(names.get(a, a), names.get(b, b)) for a, b in graph.edges], metadata=graph.metadata))
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "few.npz"
    load_spikes(EXAMPLE / "digits_test.npz").first(10).save(path)
    return path


TITLES = {"0": "layer 0 (Affine 64 x 128)", "1": "layer 1 (LIF 128)", "2": "layer 2 (Affine 128 x 10)",
          "3": "layer 3 (LIF 10)"}


def test_layers_whose_names_are_numbers_are_shown_by_what_they_are(
    numbered: Path, few: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    of = titles_of(nc.load(numbered))
    assert {name: of(name) for name in TITLES} == TITLES
    assert of("0, 2") == f"{TITLES['0']}, {TITLES['2']}"
    assert of("node '1' and 'fc1', in 3 parts") == f"{TITLES['1']} and 'fc1', in 3 parts"
    assert titles_of(nc.load(DIGITS))("'1'") == "'1'"
    seen = run("check", numbered, "--target", "loihi1")
    assert all(seen.out.count(title) >= 2 for title in (TITLES["0"], TITLES["3"]))
    assert [row["layer"] for row in run("check", numbered, "--target", "loihi1", "--json").json["layers"]] == ["0", "2"]
    too_large = run("check", numbered, "--target", "truenorth")
    assert "NC210 layer 1 (LIF 128): " in too_large.out
    unfit = run("deploy", numbered, "--target", "xylo-a2", "--fit", "--data", few, "--out", tmp_path / "none")
    assert unfit.status == 1
    assert "NC308 layer 3 (LIF 10): " in unfit.err
    deployed = run("deploy", numbered, "--target", "loihi2", "--data", few, "--out", tmp_path / "b", "--method", "rtn")
    assert deployed.out.count(TITLES["1"]) >= 3
    assert TITLES["1"] in run("compare", numbered, numbered, "--data", few).out
    assert TITLES["1"] in run("simulate", numbered, "--data", few, "--record", "1").out
    assert "layer 1 (neurons 128)" in run("compare", tmp_path / "b", tmp_path / "b", "--data", few).out
    shown = run("compress", numbered, "--method", "rtn", "--bits", "4", "--out", tmp_path / "c.nir")
    assert TITLES["2"] in shown.out


def test_convolutions_pools_and_nested_names_have_titles() -> None:
    graph = nir.NIRGraph({
        "input": nir.Input(np.array([2, 8, 8])),
        "0.0": nir.Conv2d((8, 8), np.ones((6, 2, 3, 3), np.float32), 1, 0, 1, 1, np.zeros(6)),
        "0.1": nir.IF(np.ones((6, 6, 6)), np.ones((6, 6, 6))), "1": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]),
                                                                              np.array([0, 0])),
        "2": nir.IF(np.ones((6, 3, 3)), np.ones((6, 3, 3))), "output": nir.Output(np.array([6, 3, 3]))},
        [("input", "0.0"), ("0.0", "0.1"), ("0.1", "1"), ("1", "2"), ("2", "output")], type_check=False)
    of = titles_of(nc.load(graph))
    assert of("0.0") == "layer 0.0 (Conv2d 2 x 6, kernel 3 x 3)"
    assert of("0.1") == "layer 0.1 (IF 6 x 6 x 6)"
    assert of("1") == "layer 1 (SumPool2d 6 x 3 x 3)"


@pytest.mark.parametrize("columns", [80, 60])
def test_every_verb_keeps_its_columns_and_numbers_in_a_narrow_terminal(
    columns: int, numbered: Path, few: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", few)
    commands = [
        ("deploy", numbered, "--target", "loihi2", *data, "--out", tmp_path / "b", "--method", "rtn"),
        ("check", DIGITS, "--target", "tianjic"), ("check", numbered, "--target", "truenorth"),
        ("check", numbered, "--target", "loihi1", "--fit"), ("inspect", numbered),
        ("simulate", tmp_path / "b", *data, "--record", "1"), ("compare", numbered, tmp_path / "b", *data),
        ("compress", numbered, *data, "--method", "rtn", "--bits", "4", "--out", tmp_path / "c.nir"),
        ("targets",), ("targets", "spinnaker2"), ("rules",), ("presets",), ("presets", "snntorch")]
    for command in commands:
        monkeypatch.setenv("COLUMNS", "250")
        wide = run(*command)
        monkeypatch.setenv("COLUMNS", str(columns))
        narrow = run(*command)
        assert narrow.status == wide.status, narrow.err
        for line in narrow.out.splitlines():
            assert len(line) <= columns or " " not in line.strip(), (command, line)
        whole = set(NUMBER.findall(narrow.out))
        lost = {n.strip(",.") for n in NUMBER.findall(wide.out)} - {n.strip(",.") for n in whole}
        lost = {n for n in lost if not re.search(rf"[\w./-]{re.escape(n)}|{re.escape(n)}[\w/-]", wide.out)}  # of names
        assert not lost, (command, lost)
