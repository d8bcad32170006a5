"""`neurocompress compress`: what it writes, what it keeps to, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run

import neurocompress
from neurocompress.compression import oneshot
from neurocompress.compression.layerwise import walk
from neurocompress.data.spikes import load_spikes
from neurocompress.simulation.float import simulate

CALIBRATION, TEST = EXAMPLE / "digits_calibration.npz", EXAMPLE / "digits_test.npz"


def accuracy(path: Path) -> float:
    test = load_spikes(TEST)
    found = simulate(neurocompress.load(path), test.spikes)["output"].sum(1).argmax(1)
    return 100 * float(np.mean(found == test.labels))


def weights(path: Path) -> dict[str, np.ndarray]:
    return {name: node.weight for name, node in nir.read(path).nodes.items() if hasattr(node, "weight")}


def test_weights_lie_on_the_grid_that_the_file_states(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "o.nir"
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--bits", 3, "--sparsity", 0.6, "--out", out, "--json")
    assert seen.status == 0, seen.err
    facts = neurocompress.load(out).metadata
    total = 0
    for layer in seen.json["layers"]:
        name, weight = layer["name"], weights(out)[layer["name"]].astype(np.float64)
        step = np.asarray(facts[name]["step"]).reshape(-1, 1)
        m = weight / step
        assert np.abs(m - np.rint(m)).max() < 1e-5
        assert np.abs(np.rint(m)).max() <= 3
        assert list(np.asarray(facts[name]["range"])) == [-3, 3]
        assert layer["sparsity"] == pytest.approx(float(np.mean(weight == 0)))
        total += int(np.count_nonzero(weight))
    assert total <= 0.4 * (64 * 128 + 1280) + 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_recipe_says_what_each_layer_gets(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "method: sbc\nbits: 4\nsparsity: 0.8\nlayers:\n  - {match: 'fc2', bits: 8, sparsity: 0.0}\n")
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--recipe", tmp_path / "r.yaml", "--out",
               tmp_path / "o.nir", "--json")
    first, second = seen.json["layers"]
    assert (first["bits"], second["bits"]) == (4, 8)
    kept = np.count_nonzero(weights(tmp_path / "o.nir")["fc1"])
    assert kept <= 0.2 * 64 * 128 + 1
    assert second["sparsity"] < 0.05
    flag = run("compress", DIGITS, "--data", CALIBRATION, "--recipe", tmp_path / "r.yaml", "--bits", 5, "--out",
               tmp_path / "p.nir", "--json")
    assert [layer["bits"] for layer in flag.json["layers"]] == [5, 8]


def test_a_kept_layer_stays_bit_for_bit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("bits: 2\nlayers: [{match: fc1, keep: true}]\n")
    assert run("compress", DIGITS, "--data", CALIBRATION, "--recipe", tmp_path / "r.yaml", "--out",
               tmp_path / "o.nir").status == 0
    before, after = weights(DIGITS), weights(tmp_path / "o.nir")
    np.testing.assert_array_equal(before["fc1"], after["fc1"])
    assert not np.array_equal(before["fc2"], after["fc2"])


@pytest.mark.parametrize("budget", ["2KiB", "4 KiB", "9000"])
def test_a_byte_budget_is_kept(run: Run, tmp_path: Path, budget: str) -> None:
    """Bytes counted from the written weights: those that stay at their bits and one bit for each weight, or dense."""
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--budget", budget, "--out", tmp_path / "o.nir", "--json")
    assert seen.status == 0, seen.err
    used = 0
    for layer in seen.json["layers"]:
        weight = weights(tmp_path / "o.nir")[layer["name"]]
        dense, sparse = weight.size * layer["bits"], np.count_nonzero(weight) * layer["bits"] + weight.size
        used += -(-min(dense, sparse) // 8)
    limit = {"2KiB": 2048, "4 KiB": 4096, "9000": 9000}[budget]
    assert used <= limit
    assert used > limit / 2 or limit == 9000


def test_no_neuron_has_more_inputs_than_the_fan_in(run: Run, tmp_path: Path) -> None:
    assert run("compress", DIGITS, "--data", CALIBRATION, "--fan-in", 10, "--bits", 6, "--out",
               tmp_path / "o.nir").status == 0
    for weight in weights(tmp_path / "o.nir").values():
        assert np.count_nonzero(weight, axis=1).max() <= 10
    assert accuracy(tmp_path / "o.nir") > 85.0


def test_second_order_methods_keep_what_rounding_and_magnitude_lose(run: Run, tmp_path: Path) -> None:
    found = {}
    for method in ("magnitude", "sbc-paper", "sbc"):
        data = [] if method == "magnitude" else ["--data", CALIBRATION]
        assert run("compress", DIGITS, *data, "--method", method, "--sparsity", 0.9, "--out",
                   tmp_path / f"{method}.nir").status == 0
        found[method] = accuracy(tmp_path / f"{method}.nir")
    assert found["sbc"] > found["magnitude"] + 10
    assert found["sbc"] >= found["sbc-paper"] - 1


@pytest.mark.parametrize("method", ["sbc", "sbc-paper", "exact-obs", "gptq"])
def test_the_same_call_gives_the_same_bits(run: Run, tmp_path: Path, method: str) -> None:
    for name in ("a", "b"):
        assert run("compress", DIGITS, "--data", CALIBRATION, "--method", method, "--bits", 4, "--sparsity", 0.5,
                   "--samples", 30, "--seed", 3, "--out", tmp_path / f"{name}.nir").status == 0
    a, b = weights(tmp_path / "a.nir"), weights(tmp_path / "b.nir")
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_killed_run_goes_on_with_the_same_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["compress", DIGITS, "--data", CALIBRATION, "--bits", 4, "--sparsity", 0.5, "--samples", 40, "--out"]
    assert run(*call, tmp_path / "whole.nir").status == 0
    real, seen = walk.compress_stage, []

    def stopped(stage, *rest, **more):  # type: ignore[no-untyped-def]
        seen.append(stage.population)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(stage, *rest, **more)

    monkeypatch.setattr(walk, "compress_stage", stopped)
    assert run(*call, tmp_path / "o.nir").status == 130
    assert not (tmp_path / "o.nir").exists()
    assert run(*call, tmp_path / "o.nir").status == 0
    assert seen == ["lif1", "lif2", "lif2"]
    a, b = weights(tmp_path / "whole.nir"), weights(tmp_path / "o.nir")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert {p.name for p in tmp_path.iterdir()} == {"whole.nir", "o.nir"}


def test_compression_never_sees_the_samples_that_judge_fine_tuning(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked, tuned, real = [], [], oneshot.tuned
    monkeypatch.setattr(oneshot, "compress", lambda model, *rest, **more: walked.append(model) or walk.compress(
        model, *rest, **more))
    monkeypatch.setattr(oneshot, "tuned", lambda net, layers, limits, data, *rest: tuned.append(data) or real(
        net, layers, limits, data, *rest))
    assert run("compress", DIGITS, "--data", CALIBRATION, "--sparsity", 0.5, "--finetune", 1, "--out",
               tmp_path / "o.nir").status == 0
    (model,), (data,) = walked, tuned
    assert int(data.judges.sum()) == 12
    assert data.labels is not None
    np.testing.assert_array_equal(model.spikes, data.spikes[~data.judges])


def test_finetuning_keeps_zeros_and_grid(run: Run, tmp_path: Path) -> None:
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--bits", 3, "--sparsity", 0.9, "--finetune", 2, "--out",
               tmp_path / "o.nir", "--json")
    assert any("fine-tun" in note for note in seen.json["notes"])
    facts = neurocompress.load(tmp_path / "o.nir").metadata
    total = 0
    for name, weight in weights(tmp_path / "o.nir").items():
        m = weight / np.asarray(facts[name]["step"]).reshape(-1, 1)
        assert np.abs(m - np.rint(m)).max() < 1e-5
        assert np.abs(np.rint(m)).max() <= 3
        total += np.count_nonzero(weight)
    assert total <= 0.1 * (64 * 128 + 1280) + 2


@pytest.mark.parametrize(("options", "sentence"), [
    (["--method", "foo"], "unknown method 'foo'"), (["--allocation", "foo"], "unknown allocation 'foo'"),
    (["--sparsity", 1.5], "sparsity 1.5"), (["--bits", 40], "bits 40"), (["--fan-in", 0], "fan_in 0"),
    (["--budget", "foo"], "--budget is 'foo'"), (["--memory", "-3"], "--memory is '-3'"),
    (["--budget", "2KiB", "--bits", 4], "a byte budget chooses bits and sparsity itself"),
    (["--budget", "5"], "can not be met"), (["--samples", 0], "too small"), (["--recipe", "none.yaml"], "none.yaml"),
])
def test_bad_options_are_refused_with_a_sentence(
    run: Run, tmp_path: Path, options: list[object], sentence: str
) -> None:
    seen = run("compress", DIGITS, "--data", CALIBRATION, *options, "--out", tmp_path / "o.nir")
    assert seen.status == 2
    assert sentence in seen.err
    assert "Traceback" not in seen.err
    assert not list(tmp_path.iterdir())


def test_without_data_only_methods_that_need_none(run: Run, tmp_path: Path) -> None:
    seen = run("compress", DIGITS, "--sparsity", 0.5, "--out", tmp_path / "o.nir")
    assert (seen.status, "needs calibration data" in seen.err) == (2, True)
    assert run("compress", DIGITS, "--sparsity", 0.5, "--method", "magnitude", "--out", tmp_path / "o.nir").status == 0


def test_every_bad_key_of_a_recipe_is_named_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("methd: sbc\nbits: many\nlayers:\n  - {match: fc9}\n")
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--recipe", tmp_path / "r.yaml", "--out", tmp_path / "o.nir")
    assert seen.status == 2
    assert "line 1, key 'methd'" in seen.err
    assert "Did you mean 'method'?" in seen.err
    assert "line 2, key 'bits'" in seen.err
    (tmp_path / "r.yaml").write_text("layers:\n  - {match: fc9, bits: 3}\n")
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--recipe", tmp_path / "r.yaml", "--out", tmp_path / "o.nir")
    assert "no layer matches 'fc9'" in seen.err
    assert "fc1, fc2" in seen.err


def test_a_folder_in_the_way_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "o.nir.partial").mkdir()
    (tmp_path / "o.nir.partial" / "mine.txt").write_text("mine")
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--bits", 4, "--out", tmp_path / "o.nir")
    assert seen.status == 2
    assert "holds no unfinished run" in seen.err
    assert (tmp_path / "o.nir.partial" / "mine.txt").read_text() == "mine"


def test_json_holds_the_recipe_and_what_it_cost(run: Run, tmp_path: Path) -> None:
    seen = run("compress", DIGITS, "--data", CALIBRATION, "--sparsity", 0.9, "--out", tmp_path / "o.nir", "--json")
    found = json.loads(seen.out)
    assert found["recipe"]["sparsity"] == 0.9
    assert found["calibration"]["operations"][1] < found["calibration"]["operations"][0]
    assert {"dead_before", "dead_after", "van_rossum", "earth_movers"} <= set(found["calibration"]["populations"][0])
    assert any("never spiked" in note for note in found["notes"])


def test_a_pruned_network_learns_its_originals_outputs_by_default(run: Run, tmp_path: Path) -> None:
    """On spikes that it never saw, its outputs come nearer to the original's; no labels are given, and the zeros are
    those of the nine tenths of the samples that do not judge."""
    given = load_spikes(CALIBRATION).spikes
    spikes, fewer = tmp_path / "spikes.npz", tmp_path / "fewer.npz"
    np.savez(spikes, spikes=given)
    np.savez(fewer, spikes=np.delete(given, np.s_[9::10], axis=0))
    made = {}
    for name, flags in (("learned", ()), ("not", ("--distill", 0)), ("paper", ("--method", "sbc-paper"))):
        made[name] = tmp_path / f"{name}.nir"
        data = fewer if name == "not" else spikes
        seen = run("compress", DIGITS, "--data", data, "--sparsity", 0.97, *flags, "--out", made[name], "--json")
        assert seen.status == 0, seen.err
        assert any("learning the original's outputs" in note for note in seen.json["notes"]) == (name == "learned")
    test = load_spikes(TEST).spikes
    original, other, learned = (simulate(neurocompress.load(path), test)["output"].sum(1).astype(float)
                                for path in (DIGITS, made["not"], made["learned"]))
    assert np.mean((learned - original) ** 2) < 0.9 * np.mean((other - original) ** 2)
    before, after = weights(made["not"]), weights(made["learned"])
    for layer, weight in before.items():
        np.testing.assert_array_equal(after[layer] == 0, weight == 0)


def test_nothing_is_learned_where_nearly_all_classes_stayed(run: Run, tmp_path: Path) -> None:
    """Classes counted here from the network that one shot gives; --distill N learns all the same."""
    given = load_spikes(CALIBRATION).spikes
    data = tmp_path / "spikes.npz"
    np.savez(data, spikes=given)
    said = {}
    for sparsity, flags in ((0.5, ()), (0.5, ("--distill", 1)), (0.97, ())):
        seen = run("compress", DIGITS, "--data", data, "--sparsity", sparsity, *flags, "--out", tmp_path / "o.nir",
                   "--json")
        assert seen.status == 0, seen.err
        (said[sparsity, bool(flags)],) = (n for n in seen.json["notes"] if "learning the original's outputs" in n)
        if sparsity == 0.5 and not flags:
            classes = [simulate(neurocompress.load(path), given)["output"].sum(1).argmax(1)
                       for path in (DIGITS, tmp_path / "o.nir")]
            others = int((classes[0] != classes[1]).sum())
            assert others <= 3
            assert f"was left out: {others} of 128 samples" in said[sparsity, False]
    assert "left out" not in said[0.5, True]
    assert "left out" not in said[0.97, False]
