"""Whatever number stands in a profile, it is refused with a sentence or a check of it ends."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import dense, images

from neurocompress.chip.profile.load import load_profile, profile_names, profile_text
from neurocompress.errors import Refused
from neurocompress.fit.check import check_fit
from neurocompress.network.graph import Network

Path_ = tuple[str, ...]
NETWORKS = [dense(), images(), dense(reset="subtract")]
CHIPS = {name: yaml.safe_load(profile_text(name)) for name in profile_names()}
VALUES = [None, 0, 1, 2, 3, -1, 10**15, 10**40, [], [0], [1], [10**15], {}, "x", "", True, 0.5, [[1]],
          {"zero": "native"}]


def facts(part: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Where the entries of a profile stand."""
    if isinstance(part, dict) and "source" in part:
        yield path
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from facts(value, (*path, key))


PLACES = [(name, path) for name, chip in CHIPS.items() for path in facts(chip)]


def ends(text: str, network: Network) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            assert check_fit(network, load_profile(path)).to_dict()
        except Refused as refused:
            for problem in refused.problems:
                assert problem.fix


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(VALUES), network=st.sampled_from(NETWORKS))
def test_any_value_of_any_fact_is_refused_or_checked(place: tuple[str, Path_], value: Any, network: Network) -> None:
    name, path = place
    chip = copy.deepcopy(CHIPS[name])
    entry = chip
    for key in path:
        entry = entry[key]
    entry |= {"value": value, "confidence": "unknown" if value is None else "documented"}
    ends(yaml.safe_dump(chip), network)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(CHIPS)), data=st.data())
def test_a_profile_without_one_of_its_lines_is_refused_or_checked(name: str, data: st.DataObject) -> None:
    lines = profile_text(name).splitlines()
    del lines[data.draw(st.integers(0, len(lines) - 1))]
    ends("\n".join(lines), NETWORKS[0])


def test_cores_that_differ_are_all_described(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_text("extends: speck2f\nname: a\ncore:\n  bias_words:\n    {value: [1024, 1024], source: none given, "
                    "confidence: derived, kind: wall}\n", encoding="utf-8")
    with pytest.raises(Refused, match=r"line 5, key 'core.bias_words.value': bias_words has 2 numbers, and .* 9 cores"):
        load_profile(path)
