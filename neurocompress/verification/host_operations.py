"""Operations of what lies behind the last populations, which a host computes: counted apart from the chip's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import Refused
from ..network.canonical import paths_into
from ..network.chip_form import chip_form
from ..network.connections import Connection, connection_of
from ..network.graph import Network
from .operations import Operations, operations, total
from .verify import Run


def host_operations(network: Network, host: dict[str, Any], run: Run) -> float | None:
    """Effective operations per sample behind the populations that lie on the chip; None where paths can not be folded.

    A potential is a multiply-accumulate for each synapse in each step.
    """
    try:
        folded = chip_form(network)
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
    """Operations per sample of what lies behind the last populations of a network in `chip_form`."""
    return total(operations(c, run.activities[c.source]) for c in _behind(network, {}) if c.source in run.activities)
