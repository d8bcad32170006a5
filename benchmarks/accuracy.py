"""Accuracy kept by every method, on the benchmark's networks: the table of docs/benchmark.md.

    python -m benchmarks.accuracy [NAME ...] [--seeds 5] [--samples 200] [--methods M ...] [--ablation] [--table]

Every point: mean and deviation over seeds of the calibration samples; test data are never calibrated with. Results go
to benchmarks/results/NAME.json as they are found, so a stopped run goes on where it stopped; --table only prints them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, PUBLISHED, Benchmark
from neurocompress.compression.layerwise.calibrate import Statistics
from neurocompress.compression.oneshot import compress_network, statistics_of
from neurocompress.compression.recipe import recipe_of
from neurocompress.data import SpikeData
from neurocompress.network.connections import connections
from neurocompress.network.form import compression_form
from neurocompress.network.graph import Network
from neurocompress.verification.operations import operations
from neurocompress.verification.verify import float_engine, verify

BENCHMARKS = NETWORKS | PUBLISHED
RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
BITS = (8, 6, 4, 3, 2)
PRUNING = ("magnitude", "exact-obs", "sbc-paper", "sbc")
QUANTIZATION = ("rtn", "gptq", "sbc-paper", "sbc")
SIZES = (10, 30, 100, 300, 1000, 2000)
WITHOUT_DATA = ("magnitude", "rtn")

#: Every method on the paper's grid (GPTQ's, 2^bits levels); "ternary" is the symmetric one of 3 levels at 2 bits.
GRIDS: dict[str, dict[str, Any]] = {"": {"levels": "twos-complement"}, "ternary": {"levels": "symmetric"}}


def points() -> list[dict[str, Any]]:
    """Recipes of the table, by their flags."""
    found: list[dict[str, Any]] = [{"method": m, "sparsity": s} for s in SPARSITIES[::-1] for m in PRUNING]
    found += [{"method": "sbc", "sparsity": s, "distill": 0} for s in SPARSITIES[::-1]]
    found += [{"method": m, "bits": b, "grid": GRIDS[""]} for b in BITS[::-1] for m in QUANTIZATION]
    return found + [{"method": m, "bits": 2, "grid": GRIDS["ternary"]} for m in QUANTIZATION]


def measure(network: Network, test: SpikeData) -> tuple[float, float]:
    """Accuracy in percent and synaptic operations of one sample."""
    runs, _ = verify({"x": float_engine(network)}, (), test.spikes, {p: 0 for p in network.populations}, network.input)
    activities = runs["x"].activities
    found = [operations(c, activities[c.source]) for c in connections(network)]
    return 100 * float(np.mean(runs["x"].classes == test.labels)), sum(o.ac + o.mac for o in found)


def key_of(flags: dict[str, Any], seed: int, samples: int) -> str:
    what = f"{flags['bits']} bit {flags['grid']['levels']}" if "bits" in flags else f"{flags['sparsity']:g}"
    return f"{method_of(flags)}, {what}, seed {seed}, {samples} samples"


def method_of(flags: dict[str, Any]) -> str:
    """The method's name; sbc without the epochs in which weights learn the original's outputs is "one shot"."""
    return "one shot" if "distill" in flags else str(flags["method"])


def run(benchmark: Benchmark, seeds: int, samples: int, wanted: list[dict[str, Any]]) -> None:
    """Measures what is missing in the network's results."""
    file = RESULTS / f"{benchmark.name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    network, pool, test = compression_form(benchmark.network()), benchmark.calibration(), benchmark.test()
    if "float" not in found:
        accuracy, sops = measure(network, test)
        found["float"] = {"accuracy": accuracy, "sops": sops, "test": test.samples}
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).choice(pool.samples, min(samples, pool.samples), replace=False)
        spikes = pool.spikes[np.sort(chosen)]
        shared: dict[tuple[bool, bool], Statistics] = {}
        for flags in wanted:
            key = key_of(flags, seed, samples)
            if key in found or (seed and flags["method"] in WITHOUT_DATA):
                continue
            recipe, start = recipe_of(**flags), perf_counter()
            if flags["method"] in WITHOUT_DATA:
                result = compress_network(network, None, recipe)
            else:
                kind = recipe.how.membrane, bool(recipe.distilled)
                if kind not in shared:
                    shared[kind] = statistics_of(network, spikes, recipe)
                result = compress_network(network, spikes, recipe, statistics=shared[kind])
            seconds = perf_counter() - start
            accuracy, sops = measure(result.network, test)
            found[key] = {**flags, "seed": seed, "samples": samples, "accuracy": accuracy, "sops": sops,
                          "zeros": result.sparsity, "seconds": round(seconds, 2)}
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(found, indent=1))
            print(f"{benchmark.name}: {key}: {accuracy:.2f} % ({seconds:.1f} s)", flush=True)


def table(name: str) -> str:
    """Markdown: one row for each point, one column for each method."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    base = found["float"]
    lines = [f"### {name}: float {base['accuracy']:.2f} % of {base['test']} test samples, "
             f"{base['sops'] / 1e3:.0f} k SOPs a sample", "",
             "| | magnitude / RTN | exact-OBS / GPTQ | sbc-paper | sbc, one shot | sbc | SOPs of sbc |",
             "|---" * 7 + "|"]
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    columns = {"magnitude": 0, "rtn": 0, "exact-obs": 1, "gptq": 1, "sbc-paper": 2, "one shot": 3, "sbc": 4}
    for entry in found.values():
        if "method" not in entry or entry["samples"] != 200:
            continue
        if "bits" in entry:
            ternary = entry["grid"]["levels"] == "symmetric"
            row = "ternary" if ternary else f"{entry['bits']} bit"
        else:
            row = f"{100 * entry['sparsity']:g} % zeros"
        rows.setdefault(row, {}).setdefault(str(columns[method_of(entry)]), []).append(entry)
    for row, cells in sorted(rows.items(), key=lambda r: ("zeros" not in r[0], r[0] == "ternary", _number(r[0]))):
        shown = [_cell(cells.get(str(k), [])) for k in range(5)]
        sops = [e["sops"] for e in cells.get("4", [])]
        lines.append(f"| {row} | {' | '.join(shown)} | {np.mean(sops) / 1e3:.0f} k |" if sops else
                     f"| {row} | {' | '.join(shown)} | |")
    return "\n".join(lines)


def ablation(name: str) -> str:
    """Markdown: accuracy at 97 % zeros by number of calibration samples, in one shot."""
    found = json.loads((RESULTS / f"{name}.json").read_text())
    lines = [f"### {name}: calibration samples, 97 % zeros", "",
             "| samples | sbc-paper | sbc, one shot |", "|---|---|---|"]
    for size in SIZES:
        cells = [[e for e in found.values() if e.get("sparsity") == 0.97 and method_of(e) == m and e["samples"] == size]
                 for m in ("sbc-paper", "one shot")]
        if all(cells):
            lines.append(f"| {size} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _number(row: str) -> float:
    return (1.0 if "zeros" in row else -1.0) * float(row.split()[0]) if row[0].isdigit() else 0.0


def _cell(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return ""
    values = [e["accuracy"] for e in entries]
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of every method on the benchmark's networks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks [default: all that are trained]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--methods", nargs="+", help="only these [default: all]")
    parser.add_argument("--ablation", action="store_true", help="calibration sizes instead of the table's points")
    parser.add_argument("--table", action="store_true", help="print what was measured, measure nothing")
    options = parser.parse_args()
    names = options.names or [n for n, b in BENCHMARKS.items() if b.path.exists()]
    for name in names:
        if options.table:
            print(ablation(name) if options.ablation else table(name), end="\n\n")
        elif options.ablation:
            for size in SIZES:
                run(BENCHMARKS[name], options.seeds, size, [
                    p for p in points() if p.get("sparsity") == 0.97 and method_of(p) in ("sbc-paper", "one shot")])
        else:
            wanted = [p for p in points() if not options.methods or method_of(p) in options.methods]
            run(BENCHMARKS[name], options.seeds, options.samples, wanted)


if __name__ == "__main__":
    main()
