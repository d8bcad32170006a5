"""How the class is read, and what the host computes for it: its layers, parameters and operations, counted apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Refused
from ..network.canonical import canonical, paths_into
from ..network.connections import Connection, connection_of
from ..network.graph import Network
from ..network.readout import read_by
from .host import HostWork, work_of
from .operations import Operations, operations, total
from .verify import Run

if TYPE_CHECKING:
    from ..pipeline import Compressed


@dataclass(frozen=True)
class ReadOut:
    """by: how the class is read. host: what the host computes for it, in floating point; None for nothing.
    operations_before, operations: synaptic operations of that per sample, zeros left out, before compression and behind
    the chip; None where they can not be counted."""

    by: str
    host: HostWork | None = None
    operations_before: float | None = 0.0
    operations: float | None = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {"by": self.by, "host": [] if self.host is None else list(self.host.layers),
                "operations_before": self.operations_before, "operations": self.operations}


def read_out(compressed: Compressed, runs: dict[str, Run], after: str) -> ReadOut:
    """after: the run on the chip."""
    tail, whole = compressed.tail, compressed.whole
    if tail is None or not tail.edges:
        return ReadOut(read_by(whole))
    return ReadOut(
        read_by(whole), work_of(whole, tail.host, next(iter(runs[after].activities.values())).steps),
        host_operations(compressed.whole_original, tail.host, runs["float"]),
        host_operations(whole, tail.host, runs[after]))


def host_operations(network: Network, host: dict[str, Any], run: Run) -> float | None:
    """Effective operations per sample behind the populations that lie on the chip; None where paths can not be folded.

    A potential is a multiply-accumulate for each synapse in each step.
    """
    try:
        folded = canonical(network)
    except Refused:
        return None
    return sum(_effective(found, run) for found in _behind(folded, host))


def _behind(folded: Network, host: dict[str, Any]) -> Iterator[Connection]:
    """Connections into the host's neurons and into the output, mere edges left out where nothing is added up."""
    for target in (*(p for p in folded.populations if p in host), folded.output):
        paths = paths_into(folded, target)
        for path in paths:
            found = connection_of(folded, path)
            if found.trained or found.repeats > 1 or len(paths) > 1:
                yield found


def _effective(found: Connection, run: Run) -> float:
    if found.source in run.activities:
        return operations(found, run.activities[found.source]).sops_effective
    steps = next(iter(run.activities.values())).steps
    return float(found.matrix().count_nonzero()) * steps


def readout_operations(network: Network, run: Run) -> Operations:
    """Operations per sample of what lies behind the last populations of a canonical network."""
    return total(operations(c, run.activities[c.source]) for c in _behind(network, {}) if c.source in run.activities)
