"""One table of "Spiking Brain Compression" (arXiv 2506.03996v3) again, its published figures beside the measured ones.

    python -m benchmarks.paper TABLE --data FOLDER [--model FILE.nir] [--train EPOCHS] [--samples N]
                               [--points P...] [--calibration N] [--seeds N] [--frames number|time|MS] [--binary]
                               [--preset NAME]

TABLE is nmnist-pruning, cifar10dvs-quantization, cifar100-calibration and so on; --help lists them.
FOLDER holds the dataset as its authors published it (docs/datasets.md). Without --model, the N-MNIST tables take
the project's own network; --train trains one on the folder's training data first (N-MNIST and the DVS datasets).
Each seed draws its own calibration samples of the training data, the same number of every class; accuracy is that
of the first --samples test samples of an order drawn once (all without it).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from benchmarks.paper_data import DATASETS, HELD_BYTES, PART, Dataset, Samples, stratified
from benchmarks.paper_train import LAYERS, train
from benchmarks.published import TABLES, TUNED, Table
from neurocompress import load
from neurocompress.compression.finetuning.finetune import Constraint, finetune
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import recipe_of
from neurocompress.data import SpikeData
from neurocompress.data.calibration import CalibrationSet
from neurocompress.data.frames import Split
from neurocompress.errors import Refused, refuse
from neurocompress.network.connections import connections
from neurocompress.network.graph import Network
from neurocompress.network.nodes import WEIGHTED
from neurocompress.simulation.float import batches
from neurocompress.verification.operations import Activity, activity, operations, total

#: What needs no calibration data gives the same for every seed.
UNCALIBRATED = ("magnitude", "rtn")

#: The network that the project trained itself, by dataset.
OWN = {"nmnist": Path(__file__).parent / "networks" / "nmnist-2fc.nir"}


@dataclass(frozen=True)
class Result:
    """accuracy: percent. operations: millions of synaptic operations per sample, where they were asked for."""

    accuracy: float
    operations: float


class HeldOut:
    """The test samples, made and run part by part so that memory stays bounded."""

    def __init__(self, dataset: Dataset, samples: Samples, indices: np.ndarray):
        self.make = [partial(dataset.spikes, samples, part)
                     for part in np.split(indices, range(PART, len(indices), PART))]
        first = self.make[0]()
        self.held: list[SpikeData] | None = None
        if first.spikes.nbytes * len(self.make) <= HELD_BYTES:
            self.held = [first, *(make() for make in self.make[1:])]

    def __iter__(self) -> Iterator[SpikeData]:
        return iter(self.held) if self.held is not None else (make() for make in self.make)

    def run(self, network: Network, count_operations: bool) -> Result:
        """Accuracy of the class with the most output spikes (of several, the lowest), and synaptic operations."""
        found = connections(network) if count_operations else []
        sources = {c.source for c in found}
        sent: dict[str, Activity] = {}
        right = count = 0
        for data in self:
            assert data.labels is not None
            done = 0
            for signals in batches(network, data.spikes, (*sources, network.output)):
                counts = signals[network.output].flatten(2).sum(0)
                right += int((counts.argmax(1).numpy() == data.labels[done : done + len(counts)]).sum())
                done += len(counts)
                for name in sources:
                    part = activity(signals[name].transpose(0, 1).numpy())
                    sent[name] = sent[name] + part if name in sent else part
            count += data.samples
        sops = total(operations(c, sent[c.source]) for c in found).sops_effective
        return Result(100 * right / count, sops / 1e6)


def measure(table: Table, dataset: Dataset, network: Network, folder: Path, samples: int | None, seeds: int,
            tell: Callable[[str], None]) -> tuple[Result, dict[tuple[str, float], list[Result]]]:
    """The network before compression, and by method and point one result for each seed."""
    train, held_out = dataset.read(folder, True), dataset.read(folder, False)
    assert train.labels is not None
    indices = np.sort(np.random.default_rng(0).permutation(held_out.count)[:samples])  # gestures share their files
    test = HeldOut(dataset, held_out, indices)
    count_operations = table.kind == "operations"
    base = test.run(network, count_operations)
    tell(f"before compression: {base.accuracy:.2f} %")
    results: dict[tuple[str, float], list[Result]] = {}
    sizes = table.points if table.kind == "calibration" else (float(dataset.calibration),)
    for seed in range(seeds):
        for size in sizes:
            if size > train.count:
                tell(f"{size:g} calibration samples are more than the {train.count} training samples: left out")
                continue
            data = dataset.spikes(train, stratified(train.labels, int(size), seed))
            for point in (size,) if table.kind == "calibration" else table.points:
                for method, made, notes in compressed(table, network, data, point, seed):
                    result = test.run(made, count_operations)
                    results.setdefault((method, point), []).append(result)
                    tell(f"{method} at {said(table, point)}, seed {seed}: {result.accuracy:.2f} %")
                    for note in notes:
                        tell(f"    {note}")
    return base, results


def compressed(table: Table, network: Network, data: SpikeData, point: float, seed: int,
               ) -> Iterator[tuple[str, Network, tuple[str, ...]]]:
    """Method, network and notes for each of the table's methods, on these calibration samples."""
    for method in table.methods:
        if method.endswith(TUNED) or (seed and method in UNCALIBRATED):
            continue
        epochs = table.epochs[table.points.index(point)] if table.epochs else 0
        given = CalibrationSet.of(data.spikes, epochs, data.labels, 2)  # what judges fine-tuning is not compressed with
        made = compress_network(network, given, recipe_of(method=method, **setting(table, point)))
        yield method, made.network, made.notes
        if epochs:  # on the calibration samples, the zeros kept
            zeros = {name: Constraint(np.asarray(node.weight) != 0)
                     for name, node in made.network.nodes.items() if isinstance(node, WEIGHTED)}
            tuned = finetune(made.network, zeros, given, epochs=epochs, seed=seed)
            yield method + TUNED, tuned, tuned.notes[-1:]


def setting(table: Table, point: float) -> dict[str, Any]:
    """What the recipe says beside the method."""
    if table.kind == "quantization":
        return {"bits": int(point)}
    return {"sparsity": (table.sparsity if table.kind == "calibration" else point) / 100}


def said(table: Table, point: float) -> str:
    return {"quantization": f"{point:g} bit", "calibration": f"{point:g} samples"}.get(table.kind, f"{point:g} %")


def shown(table: Table, dataset: Dataset, base: Result, results: dict[tuple[str, float], list[Result]],
          caption: str) -> Grid:
    """Measured figures, mean ± deviation over seeds, with the published one behind each in brackets."""
    grid = Grid(title=f"Table {table.number}: {dataset.title}, {table.network}, {table.kind}", caption=caption)
    grid.add_column({"quantization": "bits", "calibration": "samples"}.get(table.kind, "sparsity"))
    for method in table.methods:
        grid.add_column(f"{method}\nmeasured (published)", justify="right")
    if table.operations:
        grid.add_column("SOPs of sbc-paper, millions\nmeasured (published)", justify="right")
    operated = [[base], *(results.get(("sbc-paper", p), []) for p in table.points)]
    for k, point in enumerate((None, *table.points)):
        cells = [f"{base.accuracy:.2f} ({table.base:.2f})"] * len(table.methods)
        if point is not None:
            cells = [cell([r.accuracy for r in results.get((method, point), [])],
                          table.accuracy[method][k - 1] if method in table.accuracy else None,
                          table.deviation[k - 1] if table.deviation and method in table.accuracy else None)
                     for method in table.methods]
        if table.operations:
            cells.append(cell([r.operations for r in operated[k]], table.operations[k], None))
        grid.add_row("before" if point is None else f"{point:g}", *cells)
    return grid


def cell(values: Sequence[float], published: float | None, deviation: float | None) -> str:
    measured = "-" if not values else f"{np.mean(values):.2f}"
    if len(values) > 1:
        measured += f" ± {np.std(values, ddof=1):.2f}"
    spread = "" if deviation is None else f" ± {deviation:.2f}"
    return measured if published is None else f"{measured} ({published:.2f}{spread})"


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One table of the Spiking Brain Compression paper, measured again.")
    parser.add_argument("table", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset as published")
    parser.add_argument("--model", type=Path, help="the trained network (.nir)")
    parser.add_argument("--train", type=int, metavar="EPOCHS", help="train a network first and write it to --model")
    parser.add_argument("--samples", type=int, help="test samples [all]")
    parser.add_argument("--points", type=float, nargs="+", metavar="P", help="only these rows of the table")
    parser.add_argument("--calibration", type=int, help="calibration samples of every seed")
    parser.add_argument("--seeds", type=int, default=5, help="draws of calibration samples [5]")
    parser.add_argument("--frames", help="number, time (whole recordings, as SpikingJelly) or milliseconds per step")
    parser.add_argument("--binary", action=argparse.BooleanOptionalAction, help="at most one event per pixel and step")
    parser.add_argument("--preset", help="conventions of the platform that the network comes from")
    return parser.parse_args(given)


def chosen_frames(given: str) -> float | Split:
    if given == "number":
        return "number"
    if given == "time":
        return "time"
    try:
        return float(given)
    except ValueError:
        raise refuse(f"--frames is '{given}'", fix="Give number, time or milliseconds per step") from None


def open_network(options: argparse.Namespace, table: Table, dataset: Dataset) -> Network:
    """Raises `Refused` where there is no network, or one for other data."""
    path = options.model or (None if options.train else OWN.get(table.dataset))
    if "Transformer" in table.network:
        raise refuse(f"{table.network} multiplies spikes with spikes, and NIR has no node for that",
                     fix="This table can not be measured from a NIR file")
    if table.dataset not in LAYERS and (options.train or path is None):
        raise refuse(f"{table.network} is too large to be trained here",
                     fix="Give the trained network: --model FILE.nir")
    if path is None:
        raise refuse(f"there is no trained {table.network}",
                     fix="Give it: --model FILE.nir; or let it be trained and written there: --train EPOCHS")
    if options.train:
        train(table.dataset, dataset, dataset.read(options.data, True), options.train, path)
    network = load(path, preset=options.preset)
    shape, outputs = network.shapes[network.input], int(np.prod(network.shapes[network.output]))
    if shape != dataset.shape or outputs != dataset.classes:
        raise refuse(f"it takes {shape} and has {outputs} outputs; {dataset.title} has {dataset.shape} and "
                     f"{dataset.classes} classes", file=str(path), fix="Give the network that was trained on this data")
    return network


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    table, progress = TABLES[options.table], Console(stderr=True, soft_wrap=True)
    dataset = DATASETS[table.dataset]
    try:
        counts = (options.seeds, options.samples, options.calibration, options.train)
        if any(n is not None and n < 1 for n in counts):
            raise refuse("--samples, --calibration, --seeds and --train count from 1", fix="Give at least 1")
        if options.points:
            table = table.only(options.points)
        dataset = replace(
            dataset, calibration=options.calibration or dataset.calibration,
            frames=chosen_frames(options.frames) if options.frames else dataset.frames,
            binary=dataset.binary if options.binary is None else options.binary)
        network = open_network(options, table, dataset)
        base, results = measure(table, dataset, network, options.data, options.samples, options.seeds,
                                lambda line: progress.print(line, highlight=False, markup=False))
    except Refused as refused:
        for problem in refused.problems:
            print(problem, file=sys.stderr)
        return 2
    tested = "all" if options.samples is None else options.samples
    size = "" if table.kind == "calibration" else f" of {dataset.calibration} calibration samples"
    Console(width=max(120, Console().width)).print(
        shown(table, dataset, base, results, f"{tested} test samples; {options.seeds} seeds{size}. {table.note}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
