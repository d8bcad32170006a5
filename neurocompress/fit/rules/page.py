"""docs/rules.md: every rule of fitting as a page, written from the rules themselves."""

from __future__ import annotations

from .all_rules import explain

#: Codes that begin so, and what their rules are about.
GROUPS = {
    "NC1": "Neurons, weights, numbers and files", "NC2": "One core", "NC3": "A whole chip, or all chips of a board",
    "NC4": "Chips with one layer on each core",
}
#: How what `check` tries reads.
RELIEF = {
    "bits": "fewer bits (`--bits`)", "sparsity": "zeros (`--sparsity`)",
    "fan_in": "fewer synapses of each neuron (`--fan-in-policy prune`)", "chips": "more chips (`--chips`)",
}
HEAD = """# Rules of fitting

Written by `python docs/write_rules.py` from the rules themselves; change their docstrings, not this page.

`check` and `deploy` hold a network against every rule here, by the same functions, and report every breach, worst
first. `neurocompress rules CODE` prints one of them, `neurocompress targets NAME` a chip's limits.

- **Limit**: section and key of the profile. A profile that leaves the key out has no such limit; one where it is `null`
  has a limit that nobody published, and the rule answers *unchecked*, never *fits*.
- **Fix**: fewer bits, zeros, fewer synapses and more chips are tried by `check`, as whole new checks, and what is
  enough is printed with its flags. Everything else is yours to choose.
- **Decided**: by `check`, or only by `deploy`, which has the compressed weights and the data. Where it is zeros, of
  rounding or of pruning, on which keeping a limit depends, any rule is *decided by deploy*.
- **Stops**: a network that breaks the rule has no form on the chip, and `deploy` ends before any work.
"""
TABLE = "| rule | what it checks | limit | fix | decided | stops |\n|---|---|---|---|---|---|"


def page() -> str:
    """The text of docs/rules.md."""
    parts = [HEAD]
    rows = explain()
    for begin, title in GROUPS.items():
        parts += [f"## {title}\n", TABLE]
        for row in rows:
            if row["code"].startswith(begin):
                fixes = ", ".join(RELIEF[name] for name in row["relief"])
                fix = "; ".join(part for part in (fixes, row["fix"][:1].lower() + row["fix"][1:]) if part)
                cells = (row["code"], row["text"], f"`{row['field']}`", fix.rstrip("."), row["decided"],
                         "yes" if row["stops"] else "")
                parts.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"
