"""What a rule of fitting is, and what it finds.

Every rule has a code, names the profile field it rests on, and reports every breach, never only the first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ...chip.on_chip.reach import Reach
from ...chip.profile.fact import Entry
from ...chip.profile.schema import Profile
from ...network.connections import Connection
from ...network.graph import Network
from ...shown import brief
from ..mapping.layer import Placement


@dataclass(frozen=True)
class Violation:
    """One limit that one layer breaks.

    layer: the node that holds the weights, or the population. resource, unit: what there is too little of.
    fix: the cheapest change that makes this rule pass, as a sentence. apply: that change as arguments of `check_fit`
    (bits, sparsity, chips), empty when it is none of these. freed: counts `frees`, for which a network is placed.
    """

    code: str
    layer: str
    resource: str
    needed: float
    available: float
    unit: str
    fix: str = ""
    apply: Mapping[str, Any] = field(default_factory=dict)
    freed: Callable[[], int] = field(default=int, repr=False, compare=False)

    __repr__ = brief

    @property
    def excess(self) -> float:
        return self.needed - self.available

    @cached_property
    def frees(self) -> int:
        """Bytes of synapse memory that the fix frees."""
        return self.freed()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"code": self.code, "layer": self.layer, "resource": self.resource, "needed": self.needed,
                "available": self.available, "unit": self.unit, "fix": self.fix, "frees": self.frees,
                "apply": dict(self.apply), "excess": self.excess}

    def __str__(self) -> str:
        return (f"{self.code} {self.layer}: {self.resource}: {self.needed:,g} {self.unit} needed, {self.available:,g} "
                f"available. {self.fix}").rstrip()


@dataclass(frozen=True)
class Unchecked:
    """A limit that nobody published, so nothing can be said to keep it."""

    code: str
    resource: str
    reason: str


@dataclass(frozen=True)
class Undecided:
    """A limit of which only `deploy` can tell: it depends on the weights after compression, or on the data."""

    code: str
    layer: str
    resource: str
    reason: str


@dataclass(frozen=True, eq=False)
class Case:
    """What the rules look at. connections: as pruned, of which the signs alone may be left; given: as the network has
    them. bits: asked-for bits per weight by connection name. delays: extra steps by id. reaches: by population, what
    was found of `given` already."""

    network: Network
    profile: Profile
    connections: tuple[Connection, ...]
    placement: Placement
    bits: Mapping[str, int]
    delays: Mapping[int, int]
    given: tuple[Connection, ...] = ()
    reaches: dict[str, Reach] = field(default_factory=dict)


Finding = Violation | Unchecked | Undecided
Check = Callable[[Case], Iterator[Finding]]
Decided = Literal["check", "deploy", "check, else deploy"]


@dataclass(frozen=True)
class Rule:
    """One limit, and the function that holds a network against it.

    The function's docstring is what people read: the first paragraph is the rule, one that begins with "Fix:" says what
    its user can do beside `relief`.
    """

    #: NC and three digits; the first says what the rule is about (see rules_page).
    code: str
    #: Section and key of the profile with the limit.
    field: str
    #: What `check` tries to make it pass: "bits", "sparsity", "fan_in", "chips".
    relief: tuple[str, ...]
    #: What finds the breaches of one network.
    check: Check
    #: A network that breaks it has no form on the chip, so `deploy` has nothing to write.
    stops: bool = False
    #: Its limit is on what a population sends, so that the weights behind it are to be changed, not those before it.
    sends: bool = False
    #: Which verb knows the answer: for some rules `check` can only say that `deploy` will (`Undecided`).
    decided: Decided = "check"

    @property
    def text(self) -> str:
        """What the rule says."""
        return " ".join(inspect.cleandoc(self.check.__doc__ or "").split("\n\n")[0].split())

    @property
    def fix(self) -> str:
        """What can be done about a breach, beside `relief`; empty when that is all."""
        parts = inspect.cleandoc(self.check.__doc__ or "").split("\n\n")[1:]
        return " ".join(" ".join(part.split()).removeprefix("Fix: ") for part in parts if part.startswith("Fix: "))


RULES: dict[str, Rule] = {}


def rule(
    code: str, profile_field: str, *relief: str, stops: bool = False, sends: bool = False, decided: Decided = "check"
) -> Callable[[Check], Check]:
    """Register a rule under its code."""

    def register(check: Check) -> Check:
        RULES[code] = Rule(code, profile_field, relief, check, stops, sends, decided)
        return check

    return register


def limit_of(code: str, entry: Entry[int] | None, resource: str) -> tuple[int | None, list[Unchecked]]:
    """A limit's value, or the note that it is unknown. A limit that the profile does not name is none."""
    if entry is not None and entry.value is None:
        return None, [Unchecked(code, resource, entry.source)]
    return (entry.value if entry else None), []
