"""The command line's contract: verbs, options, exit status, one JSON object, what a deployment leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import h5py
import nir
import numpy as np
import pytest
import yaml
from cli_runner import DIGITS, EXAMPLE, Run, Seen, everything

import neurocompress
from neurocompress.chip.profile.load import profile_text
from neurocompress.cli import cli, spread_record
from neurocompress.compression.finetuning import model_selection as judge
from neurocompress.data.calibration import CalibrationSet
from neurocompress.data.spikes import SpikeData, load_spikes

CALIBRATION, TEST = EXAMPLE / "digits_calibration.npz", EXAMPLE / "digits_test.npz"

#: The contract of the command line: by verb its arguments and options.
CONTRACT = {
    "deploy": "MODEL --target --data --out --method --bits --sparsity --preset --dt --reset --seed --json",
    "check": "MODEL --target --bits --sparsity --json",
    "compress": "MODEL --data --recipe --method --bits --sparsity --allocation --fan-in --budget --samples --finetune "
                "--preset --dt --reset --seed --memory --out --json",
    "simulate": "MODEL_OR_BUNDLE --data --engine --preset --dt --reset --record --out --json",
    "inspect": "MODEL --json",
    "compare": "A B --data --json",
    "targets": "[NAME] --json",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped example, deployed once for all tests here."""
    folder = tmp_path_factory.mktemp("deployed") / "digits-loihi2"
    made = neurocompress.deploy(DIGITS, "loihi2", data=CALIBRATION, out=folder)
    assert made.passed
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of the shipped test digits, with labels."""
    path = tmp_path_factory.mktemp("data") / "few.npz"
    load_spikes(TEST).first(12).save(path)
    return path


@pytest.mark.parametrize("verb", CONTRACT)
def test_every_option_of_the_contract_exists(verb: str) -> None:
    context = click.Context(cli.commands[verb])
    parameters = cli.commands[verb].params
    found = {name for p in parameters if isinstance(p, click.Option) for name in p.opts}
    found |= {p.make_metavar(context) for p in parameters if isinstance(p, click.Argument)}
    assert set(CONTRACT[verb].split()) <= found


def test_the_python_verbs_have_the_names_of_the_command_line() -> None:
    for verb in ("load", "check", "compress", "deploy", "simulate", "compare"):
        assert callable(getattr(neurocompress, verb))
    with pytest.raises(AttributeError, match="has no attribute 'foo'"):
        _ = neurocompress.foo


@pytest.mark.parametrize("arguments", [
    ["--help"], ["targets"], ["targets", "loihi1"], ["inspect", str(DIGITS)],
    ["check", str(DIGITS), "--target", "loihi2"], ["check", str(DIGITS), "--target", "loihi2", "--json"]])
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    code = ("import sys\nfrom neurocompress.cli import main\n"
            "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
            "print(*sys.modules, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "click" in modules
    assert "torch" not in modules
    if arguments == ["--help"]:
        assert not modules & {"numpy", "rich", "yaml", "h5py", "pydantic"}
    if "--json" in arguments:
        assert "rich" not in modules


def test_the_bundle_has_the_layout_it_promises(bundle: Path) -> None:
    assert {p.name for p in bundle.iterdir()} == {"report.json", "model.nir", "integer.npz", "profile.yaml", "lava"}
    assert (bundle / "profile.yaml").read_text() == profile_text("loihi2")
    assert (bundle / "lava" / "program.py").is_file()
    assert not list(bundle.parent.glob(".*"))


def test_the_report_has_every_number_that_was_promised(bundle: Path) -> None:
    report = Seen(0, (bundle / "report.json").read_text(), "").json
    assert report["schema"] == "neurocompress.report/1"
    assert set(report["accuracy"]) == set(report["accuracy_held_out"]) == {"float", "compressed", "emulated"}
    assert set(report["agreement_with_float"]) == {"compressed", "emulated"}
    for layer in report["layers"]:
        assert {"parameters", "bits", "sparsity", "memory_float32", "memory", "cores", "rate_before", "rate",
                "dead_before", "dead", "neuron_updates", "operations"} <= set(layer)
        assert {"sops_effective", "sops_unmasked", "sops_dense"} <= set(layer["operations"])
    assert report["totals"]["parameters"] == 64 * 128 + 128 + 128 * 10 + 10
    assert report["totals"]["memory_float32"] == 4 * report["totals"]["parameters"]
    assert report["calibration"]["samples"] == len(report["calibration"]["indices"])
    assert report["energy"]["label"] == "no public figure"
    assert report["fit"]["verdict"] == "fits (estimate)"


def test_the_emulated_example_is_within_a_point_of_the_float_network(bundle: Path, run: Run) -> None:
    as_float = run("simulate", DIGITS, "--data", TEST, "--json").json
    emulated = run("simulate", bundle, "--data", TEST, "--engine", "emulator", "--json").json
    assert emulated["samples"] == as_float["samples"] == 450
    assert abs(emulated["accuracy"] - as_float["accuracy"]) <= 1.0
    labels = np.load(TEST)["labels"]
    assert emulated["accuracy"] == pytest.approx(100 * np.mean(np.array(emulated["classes"]) == labels))


def test_the_integers_of_the_bundle_are_the_weights_of_its_model(bundle: Path) -> None:
    """What a reader of model.nir finds, what the file says about it, and what the chip stores are one thing."""
    network = neurocompress.load(bundle)
    graph = nir.read(bundle / "model.nir")
    with np.load(bundle / "integer.npz") as stored:
        header = Seen(0, stored["header"].tobytes().decode(), "").json
        on_chip = {s["name"]: stored[s["weight"]["array"]] for s in header["synapses"]}
    for name in ("fc1", "fc2"):
        facts = network.metadata[name]
        m, step = np.asarray(facts["quant_weight_int"]), np.asarray(facts["quant_weight_scale"])
        np.testing.assert_array_equal((m * step.reshape(-1, 1)).astype(np.float32), graph.nodes[name].weight)
        assert np.abs(m).max() <= 127
        np.testing.assert_array_equal(on_chip[name], 2 * m)  # 8 bit of mixed sign: even numbers, see the profile


def test_simulate_writes_one_array_per_recorded_node_and_the_output(
    bundle: Path, few: Path, tmp_path: Path, run: Run
) -> None:
    for engine, model in (("float", DIGITS), ("float", bundle), ("emulator", bundle)):
        out = tmp_path / "found.npz"
        seen = run("simulate", model, "--data", few, "--engine", engine, "--record", "lif1", "lif1", "output",
                   "--out", out, "--json").json
        with np.load(out) as found:
            assert {k: found[k].shape for k in found} == {"lif1": (12, 32, 128), "output": (12, 32, 10)}
            np.testing.assert_array_equal(found["output"].sum(axis=1).argmax(axis=1), seen["classes"])
            assert seen["firing_rates"]["lif1"] == pytest.approx(np.count_nonzero(found["lif1"]) / found["lif1"].size)


def test_compare_counts_what_differs(bundle: Path, few: Path, tmp_path: Path, run: Run) -> None:
    seen = run("compare", DIGITS, bundle, "--data", few, "--json").json
    arrays = {}
    for model, engine in ((DIGITS, "float"), (bundle, "emulator")):
        run("simulate", model, "--data", few, "--engine", engine, "--record", "lif1", "--out", tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz") as found:
            arrays[engine] = dict(found)
    a, b = arrays["float"]["lif1"], arrays["emulator"]["lif1"]
    lif1 = next(p for p in seen["populations"] if p["population"] == "lif1")
    assert lif1["mismatches"] == np.count_nonzero(a != b)
    assert lif1["rate"] == {"a": pytest.approx(a.mean()), "b": pytest.approx(b.mean())}
    assert lif1["dead"]["a"] == np.count_nonzero(a.sum(axis=(0, 1)) == 0)
    assert set(lif1) >= {"van_rossum", "earth_movers"}
    same = run("compare", DIGITS, DIGITS, "--data", few, "--json").json
    assert same["agreement"] == 100.0
    assert all(p["mismatches"] == p["van_rossum"] == p["earth_movers"] == 0 for p in same["populations"])


def test_two_deployments_are_the_same_to_the_byte(few: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        neurocompress.deploy(DIGITS, "loihi2", data=few, out=tmp_path / name, seed=3)
    first, second = everything(tmp_path / "one"), everything(tmp_path / "two")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_deploy_without_data_says_so_and_gives_no_accuracy(tmp_path: Path, run: Run) -> None:
    options = ("deploy", DIGITS, "--target", "loihi2", "--method", "rtn", "--out", tmp_path / "b")
    seen = run(*options)
    assert seen.status == 0
    assert "NO DATA: calibrated on synthetic Poisson spikes, 0.05 per input and step" in seen.out
    assert seen.err == ""
    found = run(*options, "--json").json
    assert found["accuracy"] is None
    assert found["accuracy_held_out"] is None
    assert any("CALIBRATED ON SYNTHETIC POISSON" in note for note in found["assumptions"])


def test_deploy_takes_every_option_and_reports_it(few: Path, tmp_path: Path, run: Run) -> None:
    seen = run("deploy", DIGITS, "--target", "loihi2", "--data", few, "--out", tmp_path / "b", "--method", "rtn",
               "--bits", 6, "--sparsity", 0.5, "--chips", 2, "--fan-in-policy", "refuse", "--distill", 0,
               "--preset", "norse", "--dt", 0.001, "--reset", "subtract", "--seed", 7, "--json")
    assert seen.status == 0, seen.err
    found = seen.json
    assert (found["schema"], found["verb"], found["report_schema"]) == (
        "neurocompress/1", "deploy", "neurocompress.report/1")
    assert found["options"] == {"method": "rtn", "bits": 6, "sparsity": 0.5, "fit": False, "max_drop": None, "chips": 2,
                                "fan_in_policy": "refuse", "distill": 0, "preset": "norse", "dt": 0.001,
                                "reset": "subtract", "convention": {}, "input": "auto", "steps": None,
                                "readout": "auto", "seed": 7}
    assert found["fit"]["chips"] == 2
    assert found["conventions"]["reset"] == "subtract"
    assert all(layer["bits"] == 6 for layer in found["layers"])
    zeros = sum(layer["sparsity"] * layer["parameters"] for layer in found["layers"])
    assert zeros >= 0.49 * sum(layer["parameters"] for layer in found["layers"])


def test_a_pruned_deployment_learns_its_originals_outputs_and_keeps_its_zeros(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CalibrationSet, "fit", property(lambda data: data.spikes))  # the same zeros with and without
    monkeypatch.setattr(judge, "surely_lower", lambda after, before: True)  # whether it pays is tested elsewhere
    made = {}
    for name, flags in (("learned", ()), ("not", ("--distill", 0))):
        seen = run("deploy", DIGITS, "--target", "loihi2", "--data", TEST, "--sparsity", 0.95, *flags,
                   "--out", tmp_path / name, "--json")
        assert seen.status == 0, seen.err
        assert any("learning the original's outputs" in n for n in seen.json["assumptions"]) == (name == "learned")
        made[name] = neurocompress.load(tmp_path / name)
    for layer in ("fc1", "fc2"):
        before, after = (made[name].nodes[layer].weight for name in ("not", "learned"))
        assert np.any(before != after)
        assert np.all(after[before == 0] == 0)


def test_compress_for_a_chip_gives_the_weights_that_deploy_gives() -> None:
    spikes, flags = load_spikes(TEST).spikes[:100], {"sparsity": 0.97, "distill": 1}
    deployed = neurocompress.deploy(DIGITS, "loihi2", data=SpikeData(spikes, None, "few"), **flags)
    chosen = deployed.report.calibration.indices
    assert chosen is not None
    made = neurocompress.compress(DIGITS, spikes[list(chosen)], target="loihi2", **flags)
    assert any("learning the original's outputs" in note for note in made.notes)
    assert set(made.layers) == {"fc1", "fc2"}
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(layer.m, deployed.compressed.layers[name].m)


def test_deploy_without_out_names_the_bundle_after_model_and_target(
    few: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("deploy", DIGITS, "--target", "loihi2", "--data", few, "--method", "rtn").status == 0
    assert (tmp_path / "digits-loihi2" / "report.json").is_file()


def test_a_network_that_does_not_fit_ends_with_1_and_every_violation(tmp_path: Path, few: Path, run: Run) -> None:
    chip = yaml.safe_load(profile_text("loihi2"))
    chip["topology"]["cores_per_chip"]["value"] = 1
    chip["core"]["synapse_memory"].update(value=4, unit="KiB")
    chip["core"]["neurons"]["value"] = 50
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(chip))
    seen = run("check", DIGITS, "--target", tmp_path / "tiny.yaml", "--json")
    assert seen.status == 1
    found = seen.json
    assert (found["verdict"], found["fits"]) == ("does not fit", False)
    assert len(found["violations"]) >= 2
    for violation in found["violations"]:
        assert violation["excess"] == violation["needed"] - violation["available"] > 0
        assert violation["layer"]
        assert violation["fix"]
    ratios = [v["needed"] / v["available"] for v in found["violations"]]
    assert ratios == sorted(ratios, reverse=True)
    people = run("check", DIGITS, "--target", tmp_path / "tiny.yaml")
    assert people.status == 1
    assert "DOES NOT FIT" in people.out
    assert people.out.count("fix: ") == len(found["violations"])
    deployed = run("deploy", DIGITS, "--target", tmp_path / "tiny.yaml", "--data", few, "--method", "rtn",
                   "--out", tmp_path / "b", "--json")
    assert deployed.status == 1
    assert not deployed.json["passed"]
    assert not deployed.json["fit"]["fits"]


def test_check_and_inspect_and_targets_print_one_versioned_object(run: Run) -> None:
    for arguments in (["check", DIGITS, "--target", "loihi2"], ["inspect", DIGITS], ["targets"], ["targets", "loihi1"]):
        seen = run(*arguments, "--json")
        assert seen.status == 0
        assert seen.err == ""
        assert (seen.json["schema"], seen.json["verb"]) == ("neurocompress/1", arguments[0])
    assert {row["name"] for row in run("targets", "--json").json["targets"]} >= {"loihi1", "loihi2"}
    assert all(row["source"] for row in run("targets", "loihi1", "--json").json["limits"])


def test_people_see_tables_no_wider_than_100_columns(bundle: Path, few: Path, tmp_path: Path, run: Run,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for arguments in (
        ["check", DIGITS, "--target", "loihi1"], ["inspect", DIGITS], ["targets"], ["targets", "loihi2"],
        ["simulate", bundle, "--data", few, "--engine", "emulator"], ["compare", DIGITS, bundle, "--data", few],
        ["deploy", DIGITS, "--target", "loihi2", "--data", few, "--method", "rtn", "--out", tmp_path / "b"],
    ):
        seen = run(*arguments)
        assert seen.status == 0
        assert seen.err == ""
        assert max(map(len, seen.out.splitlines())) <= 100
        assert "…" not in seen.out  # nothing is cut off
    for words in ("FITS (ESTIMATE)", "held out", "same class as float", "never spiked", "no public figure",
                  "Unchecked limits", "6 of them calibrated", "effective SOPs", "37.5 KiB"):
        assert words in seen.out


@pytest.mark.parametrize(("given", "expected"), [
    ("simulate M --record A B C --data D", "simulate --record=A --record=B --record=C M --data D"),
    ("simulate M --record A --record B --data D", "simulate --record=A --record=B M --data D"),
    ("simulate --record A B --data D M", "simulate --record=A --record=B --data D M"),
    ("simulate --record A B M --data D", "simulate --record=A --record=B M --data D"),
    ("simulate --data D --record A M", "simulate --record=A M --data D"),
    ("simulate --record A --record B M --data D --json", "simulate --record=A --record=B M --data D --json"),
    ("simulate --record A --data=D -- M", "simulate --record=A --data=D -- M"),
    ("simulate --record=A M --data D", "simulate --record=A M --data D"),
    ("compare --record A B", "compare --record A B"),
])
def test_record_takes_several_names_wherever_it_stands(given: str, expected: str) -> None:
    assert spread_record(given.split()) == expected.split()


def test_record_before_the_model_runs(few: Path, run: Run) -> None:
    seen = run("simulate", "--record", "lif1", "lif2", DIGITS, "--data", few, "--json")
    assert set(seen.json["firing_rates"]) == {"lif1", "lif2", "output"}
    nothing = run("simulate", DIGITS, "--data", few, "--record")
    assert (nothing.status, nothing.err) == (
        2, "error: --record names no node. Name nodes; `neurocompress inspect` lists them\n")


def test_a_bug_of_ours_ends_with_3_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("neurocompress.verbs.check.check", broken)
    seen = run("check", DIGITS, "--target", "loihi2", "--json")
    assert seen.status == 3
    assert "This is a bug of neurocompress: please report" in seen.err
    assert seen.json["bug"] == "ZeroDivisionError: oh"


def test_ctrl_c_ends_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neurocompress.verbs.check.check", stopped)
    seen = run("check", DIGITS, "--target", "loihi2")
    assert (seen.status, seen.out, seen.err.strip()) == (130, "", "stopped")


def test_a_reader_that_stops_early_and_a_terminal_without_unicode_do_no_harm() -> None:
    command = [sys.executable, "-m", "neurocompress.cli", "targets", "loihi2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() in (0, 1)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*command[:3], "check", str(DIGITS), "--target", "loihi2"], env=ascii_only,
                          capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


def test_names_from_a_file_send_no_codes_to_the_terminal(tmp_path: Path, run: Run) -> None:
    hostile = tmp_path / "hostile.nir"
    hostile.write_bytes(DIGITS.read_bytes())
    with h5py.File(hostile, "r+") as file:
        file["node/nodes/fc1\x1b[2J[red]"] = file["node/nodes/fc1"]
        del file["node/nodes/fc1"]
        edges = file["node/edges"][()].tolist()
        del file["node/edges"]
        text = [[b"fc1\x1b[2J[red]" if name == b"fc1" else name for name in edge] for edge in edges]
        file["node/edges"] = np.array(text, dtype=h5py.string_dtype())
    for arguments in (["inspect", hostile], ["check", hostile, "--target", "loihi2"],
                      ["inspect", tmp_path / "\x1b[2J.nir"]):
        seen = run(*arguments)
        assert "\x1b" not in seen.out + seen.err
        assert "2J" in seen.out + seen.err


def test_a_model_beside_a_bundle_is_read_as_the_bundle_was(tmp_path):
    """Deployed with subtract and another dt, and compared without saying so again."""
    model, data = EXAMPLE / "digits.nir", load_spikes(EXAMPLE / "digits_test.npz").first(12)
    neurocompress.deploy(model, "loihi2", data=data, out=tmp_path / "b", method="rtn", reset="subtract", dt=2e-3)
    found = neurocompress.compare(model, tmp_path / "b", data)
    own = neurocompress.simulate(model, data, reset="subtract", dt=2e-3)
    np.testing.assert_array_equal(found.runs[0].classes, own.classes)
    assert any("reset subtract" in note for note in found.notes)
