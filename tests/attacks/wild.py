"""Values that no field expects."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

#: Text that a terminal, a table's markup or a parser might obey.
TEXTS = (
    "", " ", "abc", "nan", "1e999", "0x10", "-1", "\x1b[31mred\x1b[0m", "two\nerror: lines", "tab\tand\rreturn",
    "\u202eevil",
    "a\u200bb", "[red]x[/red]", "[/]", "{x}", "%s", "$(id)", "'", '"', "\\", "../../etc/passwd", "日本", "²", "٣", "-",
    "--help",
    "x" * 300, "x" * 5000, "input", "output", "a.b.c", ".", "..", "\x7f", "\ufeff", "𝟘", "\U0001f600",
    "a/b".replace("/", "\u2215"),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**62, 0.0, -0.0, 0.5, 1e-45, 1e-300, 1e30,
           1e38,
           1e308, float("nan"), float("inf"), float("-inf"))
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "u1", ">i2", "i4", "i8", "u8", "?", "g")
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (2,), (3,), (2, 2), (1, 4), (4, 1), (1, 1, 1), (2, 0, 3),
                                       (1,) * 6, (64,), (2, 8, 8))


def text(rng: random.Random) -> str:
    return rng.choice(TEXTS)


def number(rng: random.Random) -> int | float:
    return rng.choice(NUMBERS)


def array(rng: random.Random) -> np.ndarray:
    """A small array of any dtype that is filled with one number, or with many."""
    with np.errstate(all="ignore"):
        values = np.zeros(rng.choice(SHAPES), np.float64)
        if rng.random() < 0.5:
            values += float(number(rng))
        else:
            values += np.random.default_rng(rng.randrange(2**32)).normal(size=values.shape)
        return values.astype(rng.choice(DTYPES))


def changed(values: np.ndarray, rng: random.Random) -> Any:
    """An array that is almost this one."""
    values = np.array(values)
    with np.errstate(all="ignore"):
        turn = rng.randrange(12)
        if turn == 0:
            return values.astype(rng.choice(DTYPES))
        if turn == 1 and values.size and values.dtype.kind in "fiu":
            wild = number(rng)
            flat = values.reshape(-1).astype(np.float64)
            flat[rng.randrange(flat.size)] = wild
            return flat.reshape(values.shape).astype(values.dtype)
        if turn == 2 and values.dtype.kind in "fiu":
            return (values.astype(np.float64) * float(number(rng))).astype(values.dtype)
        if turn == 3:
            return values.T
        if turn == 4:
            return values[None]
        if turn == 5 and values.ndim:
            return values[:-1]
        if turn == 6 and values.ndim:
            return np.concatenate([values, values])
        if turn == 7:
            return values.reshape(-1)
        if turn == 8:
            return np.full(values.shape, number(rng), np.float64)
        if turn == 9 and values.size:
            return values.reshape(-1)[0]
        if turn == 10:
            return values.astype(np.complex64) if values.dtype.kind in "fiu" else values
        return array(rng)
