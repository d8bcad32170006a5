"""The cheapest change that makes a broken rule pass: fewer bits, then sparsity, then more chips.

Each is tried out as a whole new check before it is printed, with the flags that make it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from glob import escape
from typing import Any

import numpy as np

from ..by_layer import as_flags
from .plan import Plan
from .rules.all_rules import RULES, Violation, findings

#: Sparsities that are tried, mildest first.
SPARSITIES = (0.5, 0.75, 0.8, 0.875, 0.9, 0.95, 0.98, 0.99, 0.999)
#: Below this width accuracy usually falls faster than with pruning.
MILD_BITS = 4
#: A network this many times too large for the whole chip is not made smaller: no compression keeps what it does.
HOPELESS = 16

Change = dict[str, Any]


def amount(n: float, unit: str) -> str:
    """For people: "312 KiB", "1,024 axons"."""
    return size(n) if unit == "bytes" else f"{n:,g} {unit}"


def size(n: float) -> str:
    """Bytes for people: "312 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n) < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"


class Fixes:
    """Tries changes of one plan; what was tried is remembered, because several rules ask for the same."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._tried: dict[tuple[Any, ...], Plan] = {}

    def of(self, violation: Violation) -> Violation:
        """The violation with fix, freed and apply filled in; as it is where its rule says what to do."""
        relief = RULES[violation.code].relief
        if "bits" in violation.apply:  # of one layer, or of all where they are alike
            width, alike = violation.apply["bits"], len(set(self.plan.bits.values())) == 1
            change: Change = {"bits": dict.fromkeys(self._trained if alike else [violation.layer], width)}
            return replace(violation, fix=f"{violation.fix} ({self._flags(change)})", apply=self._arguments(change))
        if not relief:
            return violation if violation.fix else replace(violation, fix=_hopeless(violation))
        if found := self._fan_in(violation):
            return found
        names = self.plan.relieving(violation)
        if relief == ("sparsity",) and self.plan.profile.memory.shared_kernels.value:  # geometry says what they hear
            names = list(dict.fromkeys(
                c.layer for c in self.plan.connections if c.layer in names and c.kernel is None))
        hopeless = _whole(violation) and violation.needed > HOPELESS * violation.available
        smaller = None if hopeless else (
            self._bits(violation, names, MILD_BITS, 99) or self._sparsity(violation, names)
            or self._bits(violation, names, 1, MILD_BITS) or self._both(violation, names))
        chips = self._chips(violation)
        if smaller:
            return self._filled(violation, smaller, chips)
        if chips is not None:
            return replace(violation, fix=f"Use {chips} chips (--chips {chips})", apply={"chips": chips})
        return violation if violation.fix else replace(violation, fix=_hopeless(violation, tried=not hopeless))

    @property
    def _trained(self) -> list[str]:
        return list(dict.fromkeys(c.layer for c in self.plan.connections if c.trained))

    def _fan_in(self, violation: Violation) -> Violation | None:
        """What the chip itself can do, or pruning to its limit, which compression does by loss."""
        if "fan_in" not in RULES[violation.code].relief:
            return None
        own = self.plan.profile.core.fan_in_policy
        if own is not None and own.value in ("split", "join") and self._passes(violation, {"policy": own.value}):
            parts = math.ceil(violation.needed / violation.available)
            text = (f"Split its sums over {parts} cores" if own.value == "split" else
                    f"Join {parts} neurons of the chip to one")
            return replace(violation, fix=f"{text} (--fan-in-policy {own.value})", apply={"policy": own.value})
        if not self._passes(violation, {"policy": "prune"}):
            return None
        frees = max(0, self.plan.memory - self._try({"policy": "prune"}).memory)
        text = f"Prune to {violation.available:g} synapses a neuron (--fan-in-policy prune)"
        text += f", which frees {size(frees)}" if frees else ""
        return replace(violation, fix=text, freed=lambda: frees, apply={"policy": "prune"})

    def _filled(self, violation: Violation, change: Change, chips: int | None) -> Violation:
        names = list(next(iter(change.values())))
        place = "everywhere" if {*names} == {*self._trained} else "on " + ", ".join(f"'{n}'" for n in names)
        tried, parts = self._try(change), []
        if "bits" in change:
            now = sorted({self.plan.stored[n] for n in names})
            parts.append(f"{'/'.join(map(str, now))} → {next(iter(change['bits'].values()))} bit")
        if "sparsity" in change:
            parts.append(f"{next(iter(change['sparsity'].values())):.4%}".rstrip("%0").rstrip(".") + " % sparsity")
        text = f"{' and '.join(parts)} {place}"
        left = needed(tried, violation)
        text += "" if left is None else f": then it needs {amount(left, violation.unit)}"
        text += f" ({self._flags(change)})"
        if chips is not None:
            text += f"; or use {chips} chips (--chips {chips})"
        return replace(violation, fix=text, freed=lambda: max(self.plan.memory - tried.memory, 0),
                       apply=self._arguments(change))

    def _flags(self, change: Change) -> str:
        """The change as flags; by layer where some say something by layer already, which a bare number leaves alone."""
        found = []
        for name, now in (("bits", self.plan.bits), ("sparsity", self.plan.sparsity)):
            if name in change:
                same = len({now.get(n, 0) for n in self._trained}) == 1
                found.append(as_flags(f"--{name}", change[name], self._trained if same else ()))
        return " ".join(found)

    def _arguments(self, change: Change) -> dict[str, Any]:
        """The change as arguments of `check_fit`: what stays as it is included, one number where all agree."""
        found: dict[str, Any] = {}
        for name, now in (("bits", self.plan.bits), ("sparsity", self.plan.sparsity)):
            values = {escape(n): change.get(name, {}).get(n, now.get(n, 0)) for n in self._trained}
            if name in change or (name == "sparsity" and any(values.values())):
                found[name] = values if len(set(values.values())) > 1 else next(iter(values.values()))
        if self.plan.fan_in:
            found["fan_in"] = dict(self.plan.fan_in)
        return found

    def _bits(self, violation: Violation, names: list[str], low: int, high: int) -> Change | None:
        allowed = self.plan.profile.weights.bits.value or []
        if "bits" not in RULES[violation.code].relief:
            return None
        now = min((self.plan.stored[n] for n in names), default=0)
        for bits in sorted((b for b in allowed if low <= b < min(now, high)), reverse=True):
            change = {"bits": dict.fromkeys(names, bits)}
            if self._passes(violation, change):
                return change
        return None

    def _sparsity(self, violation: Violation, names: list[str], also: Change | None = None) -> Change | None:
        """The mildest sparsity that makes it pass. First the mildest that a bound lets pass, which is mostly it."""
        above = max((self.plan.sparsity.get(n, 0.0) for n in names), default=1.0)
        changes = [{**(also or {}), "sparsity": dict.fromkeys(names, s)} for s in SPARSITIES if s > above]
        last = len(changes) - 1
        if "sparsity" not in RULES[violation.code].relief or not changes or not self._may(violation, changes[last]):
            return None
        low, high = -1, last  # does not pass, may pass
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._may(violation, changes[middle]) else (middle, high)
        if self._passes(violation, changes[high]):
            return changes[high]
        if high == last or not self._passes(violation, changes[last]):
            return None
        low, high = high, last
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._passes(violation, changes[middle]) else (middle, high)
        return changes[high]

    def _both(self, violation: Violation, names: list[str]) -> Change | None:
        allowed = [b for b in self.plan.profile.weights.bits.value or [] if b >= MILD_BITS]
        relief = RULES[violation.code].relief
        if not allowed or not names or not {"bits", "sparsity"} <= {*relief}:
            return None
        if min(self.plan.stored[n] for n in names) <= min(allowed):
            return None
        return self._sparsity(violation, names, {"bits": dict.fromkeys(names, min(allowed))})

    def _chips(self, violation: Violation) -> int | None:
        per_chip = self.plan.profile.topology.cores_per_chip.value
        if "chips" not in RULES[violation.code].relief or not per_chip:
            return None
        chips = max(self.plan.chips + 1, math.ceil(self.plan.placement.cores / per_chip),
                    math.ceil(violation.needed / violation.available * self.plan.chips) if violation.available else 0)
        for _ in range(3):  # spikes that cross chips take more entries, which can take more cores
            tried = self._try({"chips": chips})
            if not _breaks(tried, violation):
                return chips
            chips = max(chips + 1, math.ceil(tried.placement.cores / per_chip))
        return None

    def _try(self, change: Change) -> Plan:
        key = tuple(sorted((k, tuple(sorted(v.items())) if isinstance(v, Mapping) else v) for k, v in change.items()))
        if key not in self._tried:
            tried = self.plan.changed(**change)
            self._tried[key] = tried.pruned_to_limits() if change.get("policy") == "prune" else tried
        return self._tried[key]

    def _may(self, violation: Violation, change: Change) -> bool:
        """Whether it is of any use to place the network for this change: no where a bound breaks the rule already."""
        tried, per_chip = self._try(change), self.plan.profile.topology.cores_per_chip.value
        if violation.code in ("NC301", "NC302"):
            return not tried.fewest_cores > self.plan.chips * (per_chip or 0) > 0
        if violation.code == "NC304":
            return sum(int(f.fan_in().sum()) for f in tried.fans) <= violation.available
        if violation.code == "NC208":
            leaving = [f.fan_out() for f in tried.fans if f.connection.source == violation.layer]
            return int(np.sum(leaving, axis=0).max(initial=0)) <= violation.available
        return True

    def _passes(self, violation: Violation, change: Change) -> bool:
        """The rule passes, and not by spreading the network over ever more cores."""
        tried, per_chip = self._try(change), self.plan.profile.topology.cores_per_chip.value
        room = max(self.plan.placement.cores, (per_chip or 0) * self.plan.chips)
        return self._may(violation, change) and not _breaks(tried, violation) and tried.keeps_to(room)


def needed(plan: Plan, violation: Violation) -> float | None:
    """What a plan needs of the limit that another one broke: what its rule says to a chip that has none of it."""
    if violation.code == "NC208" and (leaving := plan.leaving(violation.layer)) is not None:
        return leaving or None
    section, name = RULES[violation.code].field.split(".")
    part = getattr(plan.profile, section, None)
    entry = getattr(part, name, None)
    if part is None or entry is None:
        return None
    nothing = part.model_copy(update={name: entry.model_copy(update={"value": 0})})
    case = plan.case_of(plan.profile.model_copy(update={section: nothing}))
    found = [v.needed for v in RULES[violation.code].check(case) if isinstance(v, Violation)
             and v.resource == violation.resource and (_whole(violation) or v.layer == violation.layer)]
    return max(found, default=None)


def _whole(violation: Violation) -> bool:
    """Whether it is the whole network that breaks the rule, and not one layer."""
    return violation.code.startswith("NC3")


def _breaks(plan: Plan, violation: Violation) -> bool:
    """Whether a plan breaks the same rule in the same place."""
    if violation.code == "NC208" and (leaving := plan.leaving(violation.layer)) is not None:
        return leaving > violation.available
    return any(
        isinstance(f, Violation) and (_whole(violation) or f.layer == violation.layer)
        for f in findings(plan.case_of(plan.profile), code=violation.code))


def _hopeless(violation: Violation, tried: bool = True) -> str:
    if not violation.available:
        return "Choose another target: this chip has none"
    times = f"{violation.needed / violation.available:.3g} times"
    relief = RULES[violation.code].relief
    if not tried:
        return f"It is {times} too large for what is there: choose a smaller network"
    if not relief or relief == ("chips",):
        return f"Make it at least {times} smaller"
    what = "from each neuron" if RULES[violation.code].sends else "into it"
    return (f"Make it at least {times} smaller: no fewer bits and no sparsity up to {SPARSITIES[-1]:.1%} is enough"
            if {"bits", "sparsity"} <= {*relief} else
            f"Make it at least {times} smaller: no fewer bits are enough" if "bits" in relief else
            f"Let {times} fewer lead {what}: no sparsity up to {SPARSITIES[-1]:.1%} is enough")


def with_fixes(plan: Plan) -> Iterator[Violation]:
    """Every violation of a plan, its fix filled in, in the order in which the rules found them."""
    fixes = Fixes(plan)
    for found in plan.findings:
        if isinstance(found, Violation):
            yield fixes.of(found)
