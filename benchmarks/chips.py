"""Networks on chips: what `deploy --fit` makes of each, as the table of docs/fit.md.

    python -m benchmarks.chips [--networks N ...] [--targets T ...] [--table]

Networks: the digits example; the NIR paper's N-MNIST network (800 recordings in steps of 1 ms and of 0.5 ms) and its
two Braille networks (the one recorded sample), from the shared folder. Results go to benchmarks/results/chips.json as
they are found, so a stopped run goes on where it stopped; --table only prints them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.networks import ROOT, SHARED
from neurocompress.data import SpikeData, events_to_spikes, load_spikes
from neurocompress.errors import Refused
from neurocompress.verbs.deploy import deploy

RESULTS = ROOT / "benchmarks" / "results" / "chips.json"
TARGETS = ("loihi1", "loihi2", "spinnaker2", "spinnaker2-16bit", "tianjic", "brainscales2")
PAPER = SHARED / "models" / "nir_paper"
#: Seconds of an N-MNIST recording, and the class of the Braille sample.
DURATION, BRAILLE_CLASS = 0.3, 1


@dataclass(frozen=True)
class Case:
    """A network with what `deploy` is told about it. dt: seconds per step of its event recordings."""

    model: str
    preset: str | None = None
    reset: str | None = None
    dt: float | None = None

    @cached_property
    def data(self) -> SpikeData:
        if "braille" in self.model:
            sample = np.load(PAPER / "braille" / "braille_ds_test_0.npy", allow_pickle=False)
            return SpikeData(sample[None], np.array([BRAILLE_CLASS]), "the recorded Braille sample")
        if self.dt is None:
            return load_spikes(ROOT / "examples" / "digits" / "digits_test.npz")
        return events_to_spikes(SHARED / "data" / "nmnist_800.npz", self.dt, round(DURATION / self.dt), binary=True)


CASES = {
    "digits": Case(str(ROOT / "examples" / "digits" / "digits.nir")),
    "nmnist, 1 ms": Case(str(PAPER / "cnn" / "cnn_sinabs.nir"), "sinabs", dt=1e-3),
    "nmnist, 0.5 ms": Case(str(PAPER / "cnn" / "cnn_sinabs.nir"), "sinabs", dt=5e-4),
    "braille, zero": Case(str(PAPER / "braille" / "braille_noDelay_bias_zero.nir")),
    "braille, subtract": Case(str(PAPER / "braille" / "braille_noDelay_noBias_subtract.nir"), reset="subtract"),
}


def measure(case: Case, target: str) -> dict[str, Any]:
    """Accuracies, footprint and what was given up; or the sentences of a refusal."""
    start = perf_counter()
    try:
        made = deploy(case.model, target, data=case.data, fit=True, preset=case.preset, reset=case.reset)
    except Refused as error:
        return {"refused": [str(problem) for problem in error.problems]}
    report, fit = made.report, made.fit
    virtual = report.virtual
    return {
        "accuracy": report.accuracy, "held_out": report.held_out, "verdict": fit.verdict, "cores": fit.cores,
        "cores_available": fit.cores_available, "fewest_cores": fit.fewest_cores, "bits": made.compressed.fmt.bits,
        "zeros": float(np.mean(np.concatenate([x.weight.ravel() == 0 for x in made.compressed.layers.values()]))),
        "virtual": None if virtual is None else [virtual.accuracy_mean, virtual.accuracy_worst],
        "samples": report.samples, "notes": list(made.compressed.notes), "seconds": round(perf_counter() - start),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row for each network, one column for each target."""
    targets = [t for t in TARGETS if any(k.endswith(f"@{t}") for k in found)]
    lines = [f"| network | float | {' | '.join(targets)} |", "|---" * (2 + len(targets)) + "|"]
    for name in CASES:
        cells = {t: found[f"{name}@{t}"] for t in targets if f"{name}@{t}" in found}
        base = next((_both(c, "float") for c in cells.values() if "accuracy" in c), "")
        if cells:
            shown = [_cell(cells[t]) if t in cells else "" for t in targets]
            lines.append(f"| {name} | {base} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(entry: dict[str, Any]) -> str:
    if "refused" in entry:
        return "does not fit"
    text = _both(entry, "emulated")
    if entry["virtual"] is not None:
        text += f", virtual chips {entry['virtual'][0]:.1f}, worst {entry['virtual'][1]:.1f}"
    return f"{text}; {entry['cores']} core{'s' if entry['cores'] != 1 else ''}, {entry['bits']} bit"


def _both(entry: dict[str, Any], network: str) -> str:
    """Percent of all samples, and of those held out."""
    held = entry["held_out"]
    return f"{entry['accuracy'][network]:.2f}" + (f" ({held[network]:.2f})" if held else "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks deployed to chips with --fit.")
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES), metavar="N")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), metavar="T")
    parser.add_argument("--table", action="store_true", help="print what was measured, measure nothing")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in () if options.table else options.networks:
        for target in options.targets:
            key = f"{name}@{target}"
            if key not in found:
                found[key] = measure(CASES[name], target)
                RESULTS.write_text(json.dumps(found, indent=1))
                entry = found[key]
                print(f"{key}: {entry.get('refused') or _cell(entry)}", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
