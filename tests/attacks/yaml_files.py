"""Profiles and recipes, changed line by line and value by value."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from neurocompress.chip.profile.load import profile_names, profile_text
from tests.attacks import wild

RECIPE = """\
method: gptq
bits: 4
sparsity: 0.5
allocation: lamp
fan_in: 20
budget_bits: [8, 4, 2]
grid: {levels: symmetric, scale: per-channel, power_of_two: false, ends: search}
support: obs
block_in: 1
distill: 0
biases: kept
damping: 0.01
layers:
- {match: fc1, bits: 8, sparsity: 0.25}
- {match: '*', keep: false, fan_in: 30}
"""

VALUES = (
    "null", "~", "", "[]", "{}", "[1, [2, [3]]]", "{a: 1}", "true", "yes", "0", "-1", "1.5", ".nan", ".inf", "-.inf",
    "1e999",
    "0x10", "0x" + "f" * 40, "0x" + "f" * 5000, "0o17", "017", "0b1", "1_000", "190:20:30", "1:1:1:1:1:1:1:1:1:1:1:1",
    "9" * 20, "9" * 5000,
    "9007199254740993", "1e15", "10000000000", "2021-01-01", "2021-01-01 10:00:00", "!!timestamp 1", "!!int x",
    "!!int ''", "!!int _",
    "!!float x", "!!bool maybe", "!!binary aGk=", "!!binary '*'", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!null x",
    "!!python/object/apply:os.system [ls]", "!x y", "!!str 5", "!!seq {a: 1}", "!!map [1]", "&a [1]", "*a",
    "<<: {a: 1}", "'[red]x[/red]'",
    '"\\e[31mred"', '"two\\nerror: lines"', '"\\u202eevil"', '"\\ud800"', '"\\0"', '"@davies2018 @nobody"',
    "'" + "x" * 9000 + "'",
    "[" * 30 + "]" * 30, "[" + "1, " * 3000 + "1]", "? a", "|\n  block\n  text", "@x", "%x", "`x", "- 1",
)


@cache
def _texts() -> tuple[str, ...]:
    return tuple(profile_text(name) for name in profile_names())


def profile(folder: Path, rng: random.Random) -> Path:
    """A changed profile."""
    base = rng.choice(_texts())
    if rng.random() < 0.1:
        base = f"extends: {rng.choice((*profile_names(), 'chip.yaml', '../x.yaml', 'x'))}\nname: own\ntitle: Own\n"
    path = folder / "chip.yaml"
    path.write_bytes(_encoded(mutated(base, rng), rng))
    return path


def recipe(folder: Path, rng: random.Random) -> Path:
    """A changed recipe."""
    path = folder / "r.yaml"
    path.write_bytes(_encoded(mutated(RECIPE, rng), rng))
    return path


def _encoded(text: str, rng: random.Random) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.03:
        data = text.encode("utf-16", "surrogatepass")
    if rng.random() < 0.03:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + bytes([rng.randrange(256)]) + data[at:]
    return data


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = text.splitlines()
        used = [k for k, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")] or [0]
        at = rng.choice(used)
        line = lines[at] if lines else ""
        turn = rng.randrange(10)
        if turn < 5:  # one value, in the line's own mapping or after its first key
            spots = [m.span(1) for m in re.finditer(r":\s+([^,{}\[\]]+|\[[^\]]*\])", line)]
            if spots:
                start, end = rng.choice(spots)
                lines[at] = line[:start] + rng.choice((*VALUES, _quoted(rng))) + line[end:]
        elif turn == 5:
            del lines[at]
        elif turn == 6:
            lines.insert(at, line)
        elif turn == 7:  # another key
            lines[at] = re.sub(r"^(\s*-?\s*)([\w-]+):",
                               lambda m: f"{m[1]}{rng.choice(('x', '1', '2021-01-01', '[a]', '<<', _quoted(rng)))}:",
                               line)
        elif turn == 8:
            lines.insert(at, rng.choice(("a: &a [1]\nb: *a", "---", "...", "%YAML 9.9", "\t x", "x: 1", "  y: 2",
                                         laughs())))
        else:
            lines[at] = (line[: rng.randrange(len(line) + 1)] + rng.choice(VALUES)) if line else ""
        text = "\n".join(lines) + "\n"
    return text


def _quoted(rng: random.Random) -> str:
    return "'" + wild.text(rng).replace("'", "''") + "'"


def laughs() -> str:
    """A billion laughs."""
    return "l0: &l0 [x]\n" + "\n".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, 10))
