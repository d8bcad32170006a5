"""What people read about presets: the list, and one with every convention, its evidence and the flags."""

from __future__ import annotations

from ...network.conventions import PRESETS
from ...network.presets import PRESET_FACTS, details, rows, value_text
from ...serialize import printable
from .tables import console, notes, table


def preset_list() -> None:
    """The presets, a line each."""
    table(console(), "Presets (neurocompress presets NAME shows all that one assumes)",
          ("preset", "dt", "decay", "reset", "fires at", "evidence", "and"),
          [(row["name"], value_text("dt", PRESETS[row["name"]].dt), row["conventions"]["decay"],
            row["conventions"]["reset"], row["conventions"]["fire"], "recorded" if row["recorded"] else "read",
            row["and"]) for row in rows()], left=7)


def preset(name: str) -> None:
    """One preset: what it assumes, with the flag that changes each, and how that is known."""
    (row,) = rows(name)
    out = console()
    table(out, f"Preset {name}", ("convention", "value", "what it is", "flag that changes it"), details(name), left=4)
    if row["and"]:
        notes(out, "In short", (row["and"],))
    how = "recorded: a test reproduces it" if PRESET_FACTS[name].recorded else "by reading"
    notes(out, f"Evidence ({how})", (printable(row["evidence"]),))
