"""Tables that are right at any width: no column is dropped and no number is cut.

Where a table is wider than the terminal, headings wrap, then text wraps at its spaces, then "a → b" goes into two
lines, then long names lose their middle; what still does not fit goes into a second table below, with the first column
again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

GAP = 2
#: Text columns do not get narrower than this, and names lose their middle before anything gets narrower still.
NAME_LEAST, TEXT_LEAST = 12, 16
ELLIPSIS = "…"


@dataclass(frozen=True)
class Line:
    """One printed line. kind: "head", "rule", "row", "gap" or "total"."""

    text: str
    kind: str


def shortened(name: str, width: int) -> str:
    """A name of at most `width` columns: its middle goes, because names differ at both ends."""
    if cell_len(name) <= width:
        return name
    front, back = "", ""
    for _ in name:  # a character may take two columns
        if cell_len(front) > cell_len(back):
            if cell_len(front + back) + cell_len(name[len(name) - len(back) - 1]) > width - 1:
                break
            back = name[len(name) - len(back) - 1] + back
        else:
            if cell_len(front + back) + cell_len(name[len(front)]) > width - 1:
                break
            front += name[len(front)]
    return front + ELLIPSIS + back


def layout(width: int, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int,
           total: Sequence[str] | None = None) -> list[Line]:
    """The lines of a table; the first `left` columns hold text, the others numbers, and the first one names the row."""
    every = [*rows, *([total] if total is not None else [])]
    wanted = [_Column(name, [row[k] for row in every], k < left, k == 0) for k, name in enumerate(columns)]
    blocks, rest = [], list(range(1, len(columns)))
    while True:
        taken = rest
        while len(taken) > 1 and _fewest(wanted, taken) > width:
            taken = taken[:-1]
        blocks.append([0, *taken])
        rest = rest[len(taken):]
        if not rest:
            break
    found: list[Line] = []
    for block in blocks:
        if found:
            found.append(Line("", "gap"))
        found += _block(width, [wanted[k] for k in block], len(rows), total is not None)
    return found


class _Column:
    """A column's cells, and the widths between which it can be."""

    def __init__(self, heading: str, cells: Sequence[str], text: bool, names: bool):
        self.heading, self.cells, self.text = heading, cells, text
        self.whole = max(map(cell_len, cells), default=0)
        words = [cell_len(word) for cell in cells for word in (cell.split() if text else _pieces(cell))]
        self.broken = max(words, default=0)
        self.head_whole = max(map(cell_len, heading.split("\n")))
        self.head_broken = max((cell_len(word) for word in heading.split()), default=0)
        #: Widths from wide to narrow: heading in one line, heading wrapped, cells broken, words shortened, and those
        #: that name the rows last.
        least = min(max(self.head_broken, self.whole), max(self.broken, TEXT_LEAST)) if text else self.broken
        least = max(least, self.head_broken)
        steps = [max(self.whole, self.head_whole), max(self.whole, self.head_broken), least]
        short = max(self.head_broken, min(least, NAME_LEAST)) if text else least
        steps += [least if names else short, short]
        self.steps = [min(steps[: k + 1]) for k in range(len(steps))]


def _pieces(cell: str) -> list[str]:
    """Where a cell with numbers may be broken: before an arrow, and before a bracket."""
    return re.split(r" (?=→|\()", cell)


def _fewest(columns: Sequence[_Column], chosen: Sequence[int]) -> int:
    return sum(columns[k].steps[-1] + GAP for k in (0, *chosen)) - GAP


def _widths(width: int, columns: Sequence[_Column]) -> list[int]:
    """Every column as wide as it likes where there is room; else they give way, step by step, the widest first."""
    found = [column.steps[0] for column in columns]
    for step in range(1, 5):
        while (over := sum(found) + GAP * (len(found) - 1) - width) > 0:
            room = [found[k] - column.steps[step] for k, column in enumerate(columns)]
            if max(room, default=0) <= 0:
                break
            k = max((k for k in range(len(found)) if room[k] > 0), key=lambda k: (columns[k].text, found[k]))
            give = min(over, room[k]) if columns[k].text else room[k]
            found[k] -= give
    return found


def _block(width: int, columns: Sequence[_Column], rows: int, total: bool) -> list[Line]:
    widths = _widths(width, columns)
    heads = [_wrapped(column.heading, w, True) for column, w in zip(columns, widths, strict=True)]
    high = max(map(len, heads))
    found = [Line(_joined([[""] * (high - len(h)) + h for h in heads], k, columns, widths), "head")
             for k in range(high)]
    found.append(Line("─" * (sum(widths) + GAP * (len(widths) - 1)), "rule"))
    for row in range(rows + total):
        if row == rows and rows:
            found.append(Line("", "gap"))
        cells = [_wrapped(c.cells[row], w, c.text) for c, w in zip(columns, widths, strict=True)]
        high = max(map(len, cells))
        found += [Line(_joined([c + [""] * (high - len(c)) for c in cells], k, columns, widths),
                       "total" if row == rows else "row") for k in range(high)]
    return found


def _joined(cells: Sequence[Sequence[str]], k: int, columns: Sequence[_Column], widths: Sequence[int]) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        space = " " * max(0, width - cell_len(cell[k]))
        parts.append(cell[k] + space if column.text else space + cell[k])
    return (" " * GAP).join(parts).rstrip()


def _wrapped(cell: str, width: int, text: bool) -> list[str]:
    """A cell in lines of at most `width`, broken where it may be; longer words of text are shortened."""
    found: list[str] = []
    for line in cell.split("\n"):
        current = ""
        for word in line.split(" ") if text else _pieces(line):
            word = shortened(word, width) if text else word
            if current and cell_len(current) + 1 + cell_len(word) > width:
                found.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        found.append(current)
    return found
