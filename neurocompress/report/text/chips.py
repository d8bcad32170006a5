"""What people read about chips: the list of targets, one chip with its sources, the rules of fitting."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.text import Text

from ...chip.profile.fact import Entry
from ...chip.profile.schema import Profile, entries
from ...serialize import one_line
from .tables import console, notes, table

#: How the kinds of limits read.
KINDS = "wall: no way around it; budget: more cores or chips help; advice: no limit"
#: How the sections of a profile read.
SECTIONS = {
    "topology": "Chips and cores", "core": "One core", "memory": "How synapses are stored", "weights": "Weights",
    "neurons": "Neurons", "arithmetic": "What neurons compute with", "energy": "Energy",
}


def target_list(profiles: list[Profile]) -> None:
    """The chips, a line each."""
    table(console(), "Targets (neurocompress targets NAME shows a chip's limits)",
          ("name", "chip", "year", "cores", "weights", "emulated", "writes"),
          [(p.name, p.title, str(p.year), _cores(p), _bits(p), "no" if p.formats is None else "yes",
            ", ".join(p.emits)) for p in profiles], left=7)


def target_rows(profiles: list[Profile]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [{"name": p.name, "title": p.title, "vendor": p.vendor, "year": p.year, "cores": p.cores,
             "weight_bits": p.weights.default_bits.value, "emulated": p.formats is not None, "extends": p.extends,
             "emits": p.emits} for p in profiles]


def target(profile: Profile) -> None:
    """One chip: every limit with unit, kind, confidence and source; shared sources are written out below."""
    out = console()
    facts = list(entries(profile))
    variant = f", a variant of {profile.extends}" if profile.extends else ""
    out.print(Text(one_line(f"{profile.title} ({profile.vendor}, {profile.year}{variant})"), style="bold"))
    cores = "1 core" if _cores(profile) == "1" else f"{_cores(profile)} cores"
    out.print(f"{cores}; weights of {_bits(profile)}{_range(profile)}; writes {', '.join(profile.emits)}; "
              + ("no arithmetic is known, so nothing is emulated" if profile.formats is None
                 else f"emulated with {profile.formats.form} arithmetic"))
    out.print(KINDS)
    out.print()
    for section, found in groupby(facts, lambda fact: fact[0].split(".")[0]):
        table(out, SECTIONS[section], ("limit", "value", "kind", "confidence", "source"),
              [(key.removeprefix(f"{section}."), _fact(entry), entry.kind, entry.confidence,
                entry.source + (f" ({entry.note})" if entry.note else "")) for key, entry in found], left=5)
    unknown = [key for key, entry in facts if entry.value is None]
    notes(out, "Not public: a check against these answers \"unchecked\"", (", ".join(unknown),) if unknown else ())
    notes(out, "Energy was measured under these conditions", (profile.energy.conditions,))
    notes(out, "Sources", (f"@{key}: {text}" for key, text in profile.sources.items()))


def rules(rows: list[dict[str, Any]]) -> None:
    """What `check` holds a network against; of one rule also what mends it beside compression."""
    out = console()
    table(out, "Rules of fitting", ("code", "rule", "limit of the profile", "relieved by"),
          [(r["code"], r["text"], r["field"], ", ".join(r["relief"]).replace("_", "-") or "–") for r in rows], left=4)
    if len(rows) == 1:
        notes(out, "What else mends it", (r["fix"] for r in rows if r["fix"]))
        notes(out, "Decided by", (r["decided"] for r in rows if r["decided"] != "check"))


def _cores(profile: Profile) -> str:
    per_chip, chips = profile.topology.cores_per_chip.value, profile.topology.chips.value
    if per_chip is None or chips is None:
        return "unknown"
    return f"{per_chip:,}" if chips == 1 else f"{chips} x {per_chip:,}"


def _bits(profile: Profile) -> str:
    bits = profile.weights.default_bits.value
    return "unknown" if bits is None else f"{bits} bit"


def _range(profile: Profile) -> str:
    """The integers of weights of both signs at the default width."""
    weights = profile.weights
    if None in (weights.default_bits.value, weights.magnitude_bits.value, weights.mixed_sign_bits.value):
        return ""
    low, high, step = profile.weight_range(profile.default_bits, "mixed")
    return f" ({low:,} to {high:,}{f' in steps of {step}' if step > 1 else ''})"


def _fact(entry: Entry[Any]) -> str:
    value = entry.value
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    if isinstance(value, list):
        shown = ", ".join(f"{v:,}" if type(v) is int else str(v) for v in value)
    else:
        shown = f"{value:,}" if type(value) is int else str(value)
    unit = entry.unit or ""
    return f"{shown} {unit.removesuffix('s') if value == 1 else unit}".rstrip()
