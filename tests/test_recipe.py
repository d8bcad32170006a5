"""Recipes: what a YAML file may say, which entry wins, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocompress.compression.recipe import GridRecipe, LayerRecipe, Recipe, load_recipe, recipe_of
from neurocompress.errors import Refused


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_a_recipe_can_say(tmp_path):
    found = load_recipe(written(tmp_path, """\
method: sbc-paper
bits: 4
sparsity: 0.9
budget_bits: [8, 4]
allocation: temporal-lamp
fan_in: 64
grid:
  levels: even
  scale: per-layer
  power_of_two: true
support: obs
block_in: 8
damping: 0.02
layers:
  - match: "conv*"
    bits: 8
    sparsity: 0.5
    fan_in: 9
  - match: fc2
    keep: true
"""))
    assert found == Recipe(
        method="sbc-paper", bits=4, sparsity=0.9, budget_bits=(8, 4), allocation="temporal-lamp", fan_in=64,
        grid=GridRecipe(levels="even", scale="per-layer", power_of_two=True), support="obs", block_in=8, damping=0.02,
        layers=(LayerRecipe(match="conv*", bits=8, sparsity=0.5, fan_in=9), LayerRecipe(match="fc2", keep=True)))
    assert (found.scheme(4).levels, found.scheme(4).scale, found.scheme(4).power_of_two) == ("even", "per-layer", True)


#: A recipe of which each line that names a place is wrong, and the places.
WRONG = """\
method: sbcc
bits: 44
sparsity: 1.0
budget: 0
budget_bits: [8, 77]
allocation: even
fan_in: 0
support: 3
block_in: 1.5
damping: 0
sparsty: 0.5
grid:
  levels: odd
  scale: per-row
  power_of_two: 1
layers:
  - match: fc1
    bits: "4"
  - sparsity: 0.5
  - match: fc2
    kep: true
  - 5
"""
PLACES = (
    ("line 1", "method"), ("line 2", "bits"), ("line 3", "sparsity"), ("line 4", "budget"),
    ("line 5", "budget_bits.1"), ("line 6", "allocation"), ("line 7", "fan_in"), ("line 8", "support"),
    ("line 9", "block_in"), ("line 10", "damping"), ("line 11", "sparsty"), ("line 13", "grid.levels"),
    ("line 14", "grid.scale"), ("line 15", "grid.power_of_two"), ("line 18", "layers.0.bits"),
    ("line 19", "layers.1.match"), ("line 21", "layers.2.kep"), ("line 22", "layers.3"))


def test_every_error_of_a_recipe_names_file_line_and_key(tmp_path):
    path = written(tmp_path, WRONG)
    with pytest.raises(Refused) as refused:
        load_recipe(path)
    problems = refused.value.problems
    assert {p.where for p in problems} == {f"{line}, key '{key}'" for line, key in PLACES}
    assert all(p.file == str(path) and p.what and p.fix for p in problems)
    assert any("'sparsity'" in p.fix for p in problems if "sparsty" in p.where)
    assert any("'keep'" in p.fix for p in problems if "kep" in p.where)


@pytest.mark.parametrize(("text", "said"), [
    ("", "holds no recipe"), ("- 1", "holds no recipe"), ("bits: 4\nbits: 3", "line 2: key 'bits' appears twice"),
    ("bits: [", "not valid YAML"), ("a: &x 1\nb: *x", "line 2: an alias"), ("bits: !!python/name:os.system",
     "key 'bits': YAML reads the value as 'python/name:os.system'"), ("bits: !!timestamp 1", "key 'bits': YAML reads"),
    (f"bits: 0x{'f' * 5000}", "line 1, key 'bits': the integer 0xffff"),
    ("budget_bits: []", "line 1, key 'budget_bits'"), ("layers: fc1", "line 1, key 'layers'"),
    ("damping: .nan", "line 1, key 'damping'"), ("sparsity: .inf", "line 1, key 'sparsity'"),
    ("layers:\n- match: ''", "line 2, key 'layers.0.match'"), ("#" * 300_000, "more than"),
])
def test_a_file_that_is_no_recipe_is_refused_in_a_sentence(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(Refused) as refused:
        load_recipe(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert all(p.fix for p in refused.value.problems)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refused, match="cannot be read"):
        load_recipe(tmp_path / "no.yaml")


def test_later_entries_win_and_leave_what_they_do_not_name():
    recipe = Recipe(bits=4, fan_in=32, layers=(
        LayerRecipe(match="*", bits=6), LayerRecipe(match="fc[12]", sparsity=0.5, fan_in=8),
        LayerRecipe(match="fc2", bits=2), LayerRecipe(match="fc3", keep=True)))
    said = {n: recipe.of(n) for n in ("conv", "fc1", "fc2", "fc3", "FC1")}
    assert {n: (r.bits, r.sparsity, r.fan_in, r.keep) for n, r in said.items()} == {
        "conv": (6, None, 32, False), "fc1": (6, 0.5, 8, False), "fc2": (2, 0.5, 8, False), "fc3": (6, None, 32, True),
        "FC1": (6, None, 32, False)}


def test_an_entry_can_take_bits_back_and_keep_can_be_taken_back():
    recipe = Recipe(bits=4, layers=(LayerRecipe(match="fc*", keep=True), LayerRecipe(match="fc2", keep=False),
                                    LayerRecipe(match="fc1", bits=None)))
    assert (recipe.of("fc1").bits, recipe.of("fc1").keep) == (None, True)
    assert (recipe.of("fc2").bits, recipe.of("fc2").keep) == (4, False)


def test_names_that_match_nothing_and_choices_that_exclude_each_other_are_all_named_at_once():
    recipe = Recipe(budget=1000, bits=4, layers=(LayerRecipe(match="conv*"), LayerRecipe(match="fc?")))
    with pytest.raises(Refused) as refused:
        recipe.check(["fc1", "fc2"])
    what = [p.what for p in refused.value.problems]
    assert len(what) == 2
    assert "'conv*'" in what[0]
    assert "fc1, fc2" in refused.value.problems[0].fix
    assert "budget" in what[1]


@pytest.mark.parametrize("asked", [{"bits": 1}, {"layers": (LayerRecipe(match="fc*", bits=1),)},
                                   {"budget": 9, "budget_bits": (4, 1)}])
def test_one_bit_holds_zero_only_in_some_grids(asked):
    for levels in ("twos-complement", "even"):
        with pytest.raises(Refused, match=f"one bit is too few for levels '{levels}'"):
            Recipe(grid=GridRecipe(levels=levels), **asked).check(["fc1"])
    with pytest.raises(Refused, match="twos-complement"):
        Recipe(method="sbc-paper", **asked).check(["fc1"])
    for levels in ("symmetric", "pairs"):
        Recipe(grid=GridRecipe(levels=levels), **asked).check(["fc1"])
    Recipe(grid=GridRecipe(levels="even"), budget_bits=(4, 1)).check(["fc1"])  # without a budget they say nothing


def test_flags_override_the_file_and_leave_the_rest(tmp_path):
    base = load_recipe(written(tmp_path, "method: gptq\nbits: 4\nsparsity: 0.5\nlayers: [{match: a, keep: true}]"))
    found = recipe_of(base, bits=3, method=None, fan_in=7, grid={"levels": "pairs"})
    assert (found.method, found.bits, found.sparsity, found.fan_in, found.grid.levels) == ("gptq", 3, 0.5, 7, "pairs")
    assert found.layers == base.layers
    assert recipe_of(None) == Recipe()


def test_flags_out_of_range_are_named_all_at_once():
    with pytest.raises(Refused) as refused:
        recipe_of(None, bits=77, sparsity=-0.1, method="sbcc", damping=0.0)
    said = str(refused.value)
    assert len(refused.value.problems) == 4
    assert all(word in said for word in ("bits", "77", "sparsity", "-0.1", "method", "sbcc", "damping"))


def test_what_a_method_stands_for_is_the_default_and_can_be_replaced():
    assert Recipe(method="sbc-paper").shared_out == "lamp"
    assert Recipe(method="sbc-paper", allocation="uniform").shared_out == "uniform"
    assert Recipe(method="sbc-paper").scheme(4).levels == "twos-complement"
    assert Recipe(method="sbc-paper", grid=GridRecipe(levels="even")).scheme(4).levels == "even"
