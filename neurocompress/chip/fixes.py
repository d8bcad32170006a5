"""The cheapest change that makes a broken rule pass: fewer bits, then sparsity, then more chips. Each is tried out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .plan import Plan
from .rules import RULES, Violation

#: Sparsities that are tried, mildest first.
SPARSITIES = (0.5, 0.75, 0.8, 0.875, 0.9, 0.95, 0.98, 0.99, 0.999)
#: Below this width accuracy usually falls faster than with pruning.
MILD_BITS = 4
#: A network this many times too large for the whole chip is not searched for a fix.
HOPELESS = 16


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
        """The violation with fix, frees and apply filled in."""
        if violation.fix:
            return violation
        if _whole(violation) and violation.needed > HOPELESS * violation.available:
            return replace(violation, fix=_hopeless(violation))
        names = self._names(None if _whole(violation) else violation.layer)
        if pruned := self._fan_in(violation):
            return pruned
        if RULES[violation.code].relief == ("sparsity",):  # the sources of a convolution follow from its geometry
            names = [c.name for c in self.plan.connections if c.name in names and c.kernel is None]
        change = (
            self._bits(violation, names, MILD_BITS, 99) or self._sparsity(violation, names)
            or self._bits(violation, names, 1, MILD_BITS) or self._both(violation, names)
        )
        if change:
            return self._filled(violation, change, names)
        chips = self._chips(violation)
        if chips is not None:
            return replace(violation, fix=f"Use {chips} chips", apply={"chips": chips})
        return replace(violation, fix=_hopeless(violation))

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
        change: dict[str, Mapping[str, Any]] = {"fan_in": {}}
        for population in {x.population for x in self.plan.layers_of(violation.layer)}:
            change["fan_in"] = {**change["fan_in"], **self.plan.prunable(population)}
        if not change["fan_in"] or not self._passes(violation, change):
            return None
        frees = max(0, self.plan.memory - self._try(violation, change).memory)
        text = f"Prune to {violation.available:g} synapses a neuron (--fan-in-policy prune)"
        text += f" frees {size(frees)}" if frees else ""
        return replace(violation, fix=text, frees=frees, apply=self._arguments(change))

    def _filled(self, violation: Violation, change: Mapping[str, Any], names: list[str]) -> Violation:
        place = "everywhere" if _whole(violation) else f"on '{violation.layer}'"
        frees = self.plan.memory - self._try(violation, change).memory
        parts = []
        if "bits" in change:
            now = sorted({self.plan.stored[n] for n in names})
            parts.append(f"{'/'.join(map(str, now))} → {next(iter(change['bits'].values()))} bit {place}")
        if "sparsity" in change:
            parts.append(f"{next(iter(change['sparsity'].values())):.4%}".rstrip("%0").rstrip(".")
                         + f" % sparsity {place}")
        text = " and ".join(parts) + (f" frees {size(frees)}" if frees > 0 else "")
        chips = self._chips(violation)
        if chips is not None:
            text += f"; or use {chips} chips"
        return replace(violation, fix=text, frees=max(frees, 0), apply=self._arguments(change))

    def _arguments(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """The change as arguments of `check_fit`: what stays as it is included, one number where all agree."""
        trained = [c.name for c in self.plan.connections if c.trained]
        found: dict[str, Any] = {}
        if "fan_in" in change or self.plan.fan_in:
            found["fan_in"] = {**self.plan.fan_in, **change.get("fan_in", {})}
        for name, now in (("bits", self.plan.bits), ("sparsity", self.plan.sparsity)):
            values = {n: change.get(name, {}).get(n, now.get(n, 0)) for n in trained}
            if name in change or (name == "sparsity" and any(values.values())):
                found[name] = values if len(set(values.values())) > 1 else next(iter(values.values()))
        return found

    def _names(self, layer: str | None) -> list[str]:
        """Names of the trained connections of a layer (of all layers for None)."""
        return list(dict.fromkeys(
            i.connection.name for found in self.plan.placement.layers if layer is None or found.title == layer
            for i in found.incoming if i.connection.trained))

    def _bits(self, violation: Violation, names: list[str], low: int, high: int) -> Mapping[str, Any] | None:
        allowed = self.plan.profile.weights.bits.value or []
        if "bits" not in RULES[violation.code].relief:
            return None
        now = min((self.plan.stored[n] for n in names), default=0)
        for bits in sorted((b for b in allowed if low <= b < min(now, high)), reverse=True):
            change = {"bits": {n: bits for n in names}}
            if self._passes(violation, change):
                return change
        return None

    def _sparsity(self, violation: Violation, names: list[str],
                  also: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        above = max((self.plan.sparsity.get(n, 0.0) for n in names), default=1.0)
        levels = [s for s in SPARSITIES if s > above]
        changes = [{**(also or {}), "sparsity": {n: s for n in names}} for s in levels]
        if "sparsity" not in RULES[violation.code].relief or not changes or not self._passes(violation, changes[-1]):
            return None
        low, high = -1, len(changes) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._passes(violation, changes[middle]) else (middle, high)
        return changes[high]

    def _both(self, violation: Violation, names: list[str]) -> Mapping[str, Any] | None:
        allowed = [b for b in self.plan.profile.weights.bits.value or [] if b >= MILD_BITS]
        relief = RULES[violation.code].relief
        if not allowed or not names or not {"bits", "sparsity"} <= {*relief}:
            return None
        if min(self.plan.stored[n] for n in names) <= min(allowed):
            return None
        return self._sparsity(violation, names, {"bits": {n: min(allowed) for n in names}})

    def _chips(self, violation: Violation) -> int | None:
        per_chip = self.plan.profile.topology.cores_per_chip.value
        if "chips" not in RULES[violation.code].relief or not per_chip:
            return None
        chips = max(self.plan.chips + 1, math.ceil(self.plan.placement.cores / per_chip),
                    math.ceil(violation.needed / violation.available * self.plan.chips) if violation.available else 0)
        for _ in range(3):  # spikes that cross chips take more entries, which can take more cores
            tried = self._try(violation, {"chips": chips})
            if not _breaks(tried, violation):
                return chips
            chips = max(chips + 1, math.ceil(tried.placement.cores / per_chip))
        return None

    def _try(self, violation: Violation, change: Mapping[str, Any]) -> Plan:
        key = tuple(sorted((k, tuple(sorted(v.items())) if isinstance(v, Mapping) else v) for k, v in change.items()))
        if key not in self._tried:
            self._tried[key] = self.plan.changed(**change)
        return self._tried[key]

    def _passes(self, violation: Violation, change: Mapping[str, Any]) -> bool:
        """The rule passes, and not by spreading the network over ever more cores."""
        tried, per_chip = self._try(violation, change), self.plan.profile.topology.cores_per_chip.value
        room = max(self.plan.placement.cores, (per_chip or 0) * self.plan.chips)
        if violation.code in ("NC301", "NC302") and tried.fewest_cores > self.plan.chips * (per_chip or 0) > 0:
            return False
        return not _breaks(tried, violation) and tried.placement.cores <= room


def _whole(violation: Violation) -> bool:
    """Whether it is the whole network that breaks the rule, and not one layer."""
    return violation.code.startswith("NC3")


def _breaks(plan: Plan, violation: Violation) -> bool:
    return any(
        isinstance(f, Violation) and f.code == violation.code and (_whole(violation) or f.layer == violation.layer)
        for f in plan.findings
    )


def _hopeless(violation: Violation) -> str:
    if not violation.available:
        return "Choose another target: this chip has none"
    times = f"{violation.needed / violation.available:.3g} times"
    relief = RULES[violation.code].relief
    if "chips" in relief:
        return f"It is {times} too large for what is there: choose a smaller network or that many more chips"
    if not relief:
        return f"Make it at least {times} smaller"
    return (f"Make it at least {times} smaller: no fewer bits and no sparsity up to {SPARSITIES[-1]:.1%} is enough"
            if "bits" in relief else
            f"Feed it from {times} fewer sources: no sparsity up to {SPARSITIES[-1]:.1%} is enough")


def with_fixes(plan: Plan) -> Iterator[Violation]:
    """Every violation of a plan, its fix filled in, in the order in which the rules found them."""
    fixes = Fixes(plan)
    for found in plan.findings:
        if isinstance(found, Violation):
            yield fixes.of(found)
