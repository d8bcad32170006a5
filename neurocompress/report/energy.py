"""What public figures say about a chip's energy: an estimate with its conditions, never measured joules.

Only what the figures cover is counted: synaptic operations and neuron updates, dynamic energy where the conditions
say so. Spike transport, input and output, the host and leakage are not in it. Figures of two chips were taken under
different conditions, so two estimates do not compare chips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..verification.operations import Operations

_JOULES = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "fJ": 1e-15}

NO_FIGURE = "no public figure"
LABEL = "estimate from published figures, not a measurement"


@dataclass(frozen=True)
class Term:
    """One kind of event: count per sample, and joules per sample from the least to the most that its figures allow.

    low, high: None when no figure is public. figures: the coefficients with unit and source, as people read them.
    """

    what: str
    count: float
    low: float | None
    high: float | None
    figures: tuple[str, ...]


@dataclass(frozen=True)
class Energy:
    """Energy per sample in joules, from `low` to `high`; None when a term has no public figure.

    conditions: of the figures (voltage, process, "dynamic only"). label: what kind of number this is, to be printed
    with it. missing: terms that no figure covers.
    """

    low: float | None
    high: float | None
    terms: tuple[Term, ...]
    conditions: str
    label: str
    missing: tuple[str, ...]


def energy(section: Mapping[str, Any], operations: Operations, neuron_updates: float) -> Energy:
    """Energy per sample of `operations` and `neuron_updates`, both per sample, by a profile's energy section.

    section: `conditions`, `per_synaptic_operation` and optionally `per_neuron_update_active`/`_inactive`, each
    {value, unit, source, ...} or None; a value of None means that no public figure exists. Effective operations are
    counted: synapses of weight zero need not be stored. Which neurons count as active is not public, so all of
    them inactive is the low end and all of them active the high end.
    """
    terms = (
        _term("synaptic operations", operations.sops_effective, section, ("per_synaptic_operation",)),
        _term("neuron updates", neuron_updates, section, ("per_neuron_update_inactive", "per_neuron_update_active")),
    )
    missing = tuple(term.what for term in terms if term.low is None)
    lows = [term.low for term in terms if term.low is not None]
    highs = [term.high for term in terms if term.high is not None]
    known = not missing
    return Energy(
        sum(lows) if known else None, sum(highs) if known else None, terms,
        conditions=str(section.get("conditions") or "conditions not stated"),
        label=LABEL if known else NO_FIGURE, missing=missing,
    )


def _term(what: str, count: float, section: Mapping[str, Any], keys: tuple[str, ...]) -> Term:
    entries = [(key, section[key]) for key in keys if section.get(key) is not None]
    figures = tuple(
        f"{key}: {NO_FIGURE}" if entry["value"] is None
        else f"{key}: {entry['value']:g} {entry['unit']} ({entry['source']}, {entry['confidence']})"
        for key, entry in entries
    )
    joules = sorted(entry["value"] * _JOULES[entry["unit"]] for _, entry in entries if entry["value"] is not None)
    if not joules:
        return Term(what, count, None, None, figures)
    return Term(what, count, count * joules[0], count * joules[-1], figures)
