"""How the class is read, and what the host computes for it: its layers, parameters and operations, counted apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..network.readout import read_by
from ..verification.host_operations import host_operations
from ..verification.verify import Run
from .host import HostWork, work_of

if TYPE_CHECKING:
    from ..deployment.compressed import Compressed


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
