"""What compression without a chip did: by layer, by population, and on the data it was calibrated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..network.canonical import canonical
from ..network.connections import connections
from ..network.readout import read_by
from .figures import change, count, percent, rate, share, size
from .operations import operations, total
from .readout import readout_operations
from .tables import console, membranes, notes, table
from .titles import titles_of
from .verify import Change, Run, float_engine, verify

if TYPE_CHECKING:
    from ..data.spikes import SpikeData
    from ..network.graph import Network
    from ..oneshot import Result


@dataclass(frozen=True, eq=False)
class Measured:
    """runs: "float" and "compressed" over the data. populations: how they changed. operations: of one sample, before
    and after. accuracy: percent before and after, None without labels."""

    runs: dict[str, Run]
    populations: tuple[Change, ...]
    operations: tuple[float, float]
    accuracy: tuple[float, float] | None


def measure(result: Result, data: SpikeData, progress: Callable[[int], None] | None = None) -> Measured:
    """Both networks over the same data."""
    sizes = {p: int(np.prod(result.original.shapes[p])) for p in result.original.populations}
    engines = {"float": float_engine(result.original), "compressed": float_engine(result.network)}
    runs, changes = verify(engines, (("float", "compressed"),), data.spikes, sizes, result.original.input, progress)
    accuracy = None
    if data.labels is not None:
        before, after = (100.0 * float(np.mean(runs[k].classes == data.labels)) for k in ("float", "compressed"))
        accuracy = before, after
    effective = tuple(_operations(network, runs[name]) for name, network in (
        ("float", result.original), ("compressed", result.network)))
    return Measured(runs, changes["float", "compressed"], (effective[0], effective[1]), accuracy)


def _operations(network: Network, run: Run) -> float:
    folded = canonical(network)
    found = total(operations(c, run.activities[c.source]) for c in connections(folded))
    return found.sops_effective + readout_operations(folded, run).sops_effective


def stored_bytes(result: Result) -> tuple[int, int]:
    """Bytes of all weights as float32, and at their bits: the weights that are not zero, pruned or rounded to it, and
    one bit of each that says which, or all of them dense, whichever is less (an estimate: a chip stores them its own
    way)."""
    before = after = 0
    for layer in result.layers.values():
        weights, bits = layer.weight.size, layer.bits or 32
        stay = int(np.count_nonzero(layer.weight))
        before += 4 * weights
        after += -(-min(weights * bits, stay * bits + weights) // 8)
    others = sum(4 * node.weight.size for node in result.kept.values())
    return before + others, after + others


def compressed_data(result: Result, measured: Measured | None, out: Path) -> dict[str, Any]:
    """For JSON. Accuracy, operations and distances are those on the calibration data."""
    before, after = stored_bytes(result)
    found: dict[str, Any] = {
        "out": out, "recipe": result.recipe.model_dump(mode="json"), "sparsity": result.sparsity,
        "bytes_float32": before, "bytes_estimate": after, "notes": result.notes, "read_by": read_by(result.network),
        "layers": [{
            "name": name, "weights": layer.weight.size, "sparsity": float(np.mean(layer.weight == 0)),
            "bits": layer.bits, "range": layer.grid_range, "error": layer.error, "share_lost": layer.share_lost,
            "scale_share": layer.scale_share, "dead_inputs": layer.dead_inputs, "damping": layer.damping,
        } for name, layer in result.layers.items()],
    }
    if measured is not None:
        found |= {
            "calibration": {
                "accuracy": measured.accuracy, "operations": measured.operations,
                "agreement": 100.0 * float(np.mean(
                    measured.runs["float"].classes == measured.runs["compressed"].classes)),
                "populations": [vars(c) | {"membrane": c.membrane and vars(c.membrane)}
                                for c in measured.populations]}}
    return found


def show(result: Result, measured: Measured | None, out: Path) -> None:
    """For people."""
    to, of = console(), titles_of(result.original)
    before, after = stored_bytes(result)
    to.print(f"{out}: {share(result.sparsity)} of all weights are zero, {change(size(before), size(after))} (estimate)",
             style="bold")
    to.print()
    table(to, "Layers", ("layer", "weights", "zeros", "bits", "potential lost", "inputs without a spike"),
          [(of(name), count(layer.weight.size), share(float(np.mean(layer.weight == 0))),
            "float" if layer.bits is None else str(layer.bits), share(layer.share_lost), count(layer.dead_inputs))
           for name, layer in result.layers.items()]
          + [(of(name), count(node.weight.size), share(float(np.mean(node.weight == 0))), "as it was", "", "")
             for name, node in result.kept.items()])
    if measured is not None:
        rows = [(of(c.population), change(rate(c.rate_before), rate(c.rate_after)),
                 change(count(c.dead_before), count(c.dead_after)), f"{c.van_rossum:.3g}")
                for c in measured.populations if c.membrane is None]
        table(to, "Populations, on the calibration data",
              ("population", "spikes per neuron and step", "silent neurons", "Van Rossum distance"), rows)
        membranes(to, "Membranes, on the calibration data",
                  {c.population: c.membrane for c in measured.populations if c.membrane is not None})
        to.print(f"synaptic operations a sample: {change(*map(count, measured.operations))}")
        if measured.accuracy is not None:
            to.print(f"accuracy on the calibration data, by the {read_by(result.network)}: "
                     f"{change(*map(percent, measured.accuracy))}; `neurocompress compare` measures it on other data")
        to.print()
    notes(to, "Notes", map(of, result.notes))
