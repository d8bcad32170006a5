"""The list of all rules of fitting: each is a small function whose docstring is the rule that the user reads."""

from __future__ import annotations

import difflib
from typing import Any

from ...errors import refuse
from . import chips, circuits, cores, crossbars, files, layer_cores, numbers  # noqa: F401 (they register themselves)
from .rule import RULES, Case, Finding, Unchecked, Undecided, Violation

__all__ = ["RULES", "Case", "Finding", "Unchecked", "Undecided", "Violation", "explain", "findings"]


def explain(code: str | None = None) -> list[dict[str, Any]]:
    """One row for each rule (for the one with this code): code, text, field of the profile, what can relieve it (tried
    by `check`), what else mends it, which verb decides it, whether `deploy` writes nothing without it.

    Raises `Refused` for a code that no rule has.
    """
    if code is not None and code.upper() not in RULES:
        close = difflib.get_close_matches(code.upper(), RULES, 1)
        raise refuse(f"there is no rule '{code}'", fix=(f"Did you mean {close[0]}? " if close else "")
                     + "`neurocompress rules` lists them")
    return [{"code": r.code, "text": r.text, "field": r.field, "relief": list(r.relief), "fix": r.fix,
             "decided": r.decided, "stops": r.stops}
            for r in (RULES[c] for c in sorted(RULES)) if code is None or r.code == code.upper()]


def findings(
    case: Case, *, stopping: bool = False, built: bool = False, code: str | None = None
) -> list[Finding]:
    """What every rule finds, in the order of their codes. stopping: only the rules without which a network has no form
    on the chip; built: all but these, for a network that has one; code: only this rule."""
    asked = [r for c, r in sorted(RULES.items()) if (r.stops or not stopping) and not (r.stops and built)
             and code in (None, c)]
    return [found for r in asked for found in r.check(case)]
