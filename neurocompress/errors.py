"""Problems as sentences: what, where, got, expected, and what to do about it.

Every refusal of neurocompress is a `Problem`. They are gathered and raised together in one
`Refused`, so that a user sees all of them at once and never only the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .serialize import one_line

#: Problems that one refusal names; how many more there are stands at the end.
NAMED = 200


@dataclass(frozen=True)
class Problem:
    """One reason why an input can not be used.

    what:  the sentence itself, without its place ("weight holds 3 NaN values").
    where: the node, key or line it is about ("node 'fc1'"), or "" for the whole input.
    fix:   what the user can do ("Train again with gradient clipping, or replace them by 0").
    file:  the file it came from, when there is one.

    Names and values from files stand in all four, so each becomes one printable line here and nowhere else.
    """

    what: str
    where: str = ""
    fix: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        for name in ("what", "where", "fix", "file"):
            object.__setattr__(self, name, one_line(str(getattr(self, name))))

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.where) if part)
        head = f"{place}: {self.what}" if place else self.what
        return f"{head.rstrip('.')}. {self.fix}".rstrip()


class Refused(Exception):
    """Bad usage or bad input (exit status 2): carries every `Problem` that was found."""

    def __init__(self, problems: Problem | Iterable[Problem]):
        found = (problems,) if isinstance(problems, Problem) else tuple(problems)
        if len(found) > NAMED + 1:  # the last of those may count the rest
            more = Problem(f"{len(found) - NAMED} more problems", fix="Correct these first, then run again")
            found = (*found[:NAMED], more)
        self.problems = found
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Unfit(Refused):
    """A network that no choice makes fit (exit status 1, as for `check`)."""


def refuse(what: str, *, where: str = "", fix: str = "", file: str = "") -> Refused:
    """A `Refused` with a single problem, to be raised: `raise refuse("...", fix="...")`."""
    return Refused(Problem(what, where, fix, file))
