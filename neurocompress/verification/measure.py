"""A compressed network beside its original on the same data, and the bytes of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..network.chip_form import chip_form
from ..network.connections import connections
from .host_operations import readout_operations
from .operations import operations, total
from .verify import Change, Run, float_engine, verify

if TYPE_CHECKING:
    from ..compression.oneshot import Result
    from ..data.spikes import SpikeData
    from ..network.graph import Network


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
    folded = chip_form(network)
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
