"""A number for all layers, or numbers for the layers whose names match a pattern: 0.5, {"fc*": 0.75, "*": 0.5}.

On the command line: `--sparsity 0.5 --sparsity 'fc*=0.75'`. Shell patterns (fnmatch, case matters); of several that
match the last one holds, whatever a bare number ("*") says. A layer that none matches has no number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from shlex import quote
from typing import TypeVar

from .errors import Problem, Refused

N = TypeVar("N", int, float)

#: The pattern that a bare number stands for.
ALL = "*"
#: What a copy of a layer is called: the layer, then where its path comes from and leads ("conv@a>b"), and a number
#: where there are more. An "@" without that is the user's own.
COPY = re.compile(r"(.+)@(?:[^@]*>.*|behind(?:#\d+)?)", re.DOTALL)


def layer_of(name: str) -> str:
    """The layer that a name means: of a copy that a path makes of one ("conv@a>b") the layer itself."""
    copy = COPY.fullmatch(name)
    return copy[1] if copy else name


def matches(layer: str, pattern: str) -> bool:
    """Whether a pattern means a layer; of the copies that several paths make of one layer ("conv@a>b") it means all."""
    return pattern == layer or fnmatchcase(layer, pattern) or fnmatchcase(layer_of(layer), pattern)


def of_layers(what: str, given: N | Mapping[str, N] | None, layers: Iterable[str]) -> dict[str, N]:
    """The number of each layer that has one. Raises `Refused` for every pattern that matches no layer.

    what: the quantity, for the message.
    """
    names = tuple(dict.fromkeys(layers))
    numbers = given if isinstance(given, Mapping) else {} if given is None else {ALL: given}
    lost = [p for p in numbers if p != ALL and not any(matches(n, p) for n in names)]
    if lost:
        raise Refused(unmatched(what, pattern, names) for pattern in lost)
    found: dict[str, N] = {}
    for pattern, number in sorted(numbers.items(), key=lambda item: item[0] != ALL):  # stable: "*" first
        found |= {n: number for n in names if matches(n, pattern)}
    return found


def unmatched(what: str, pattern: str, layers: Sequence[str]) -> Problem:
    """What to say of a pattern that matches nothing."""
    shown = ", ".join(dict.fromkeys(layer_of(n) for n in layers))
    return Problem(f"{what} names layer '{pattern}', and no layer with weights is called that or matches it",
                   fix=f"Layers with weights: {shown}" if shown else "The network has no layer with weights")


def split(given: N | Mapping[str, N] | None) -> tuple[N | None, dict[str, N]]:
    """The number of all layers, None without one, and those of patterns, in order."""
    if not isinstance(given, Mapping):
        return given, {}
    return given.get(ALL), {p: n for p, n in given.items() if p != ALL}


def of_flags(flag: str, texts: Sequence[str], kind: type[N]) -> N | dict[str, N] | None:
    """What a repeatable flag says: "0.5", "fc*=0.75". None without any, a number where that is all there is.

    Raises `Refused` for texts that are none of both.
    """
    found: dict[str, N] = {}
    problems = []
    for text in texts:
        pattern, _, number = text.rpartition("=")
        bare = "=" not in text
        try:
            found[ALL if bare else pattern] = kind(number)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            problems.append(Problem(f"{flag} is '{text}'", fix=f"Give {wanted}, or LAYER={wanted.split()[-1].upper()} "
                                    f"for layers by name, such as {flag} 'fc*={'4' if kind is int else '0.75'}'"))
        if not bare and not pattern:
            problems.append(Problem(f"{flag} is '{text}', and names no layer", fix=f"Give {flag} 'fc*={number}'"))
    if problems:
        raise Refused(problems)
    return None if not found else found[ALL] if [*found] == [ALL] else found


def as_flags(flag: str, numbers: Mapping[str, N], layers: Iterable[str]) -> str:
    """The flags that give these layers these numbers, to be pasted into a shell. layers: all there are."""
    wanted: dict[str, str] = {layer_of(name): f"{number:.6g}" for name, number in numbers.items()}
    texts = list(wanted.values())
    if wanted.keys() == {layer_of(n) for n in layers} and texts == texts[:1] * len(texts):
        return f"{flag} {texts[0]}"
    return " ".join(f"{flag} {quote(f'{escape(name)}={text}')}" for name, text in wanted.items())
