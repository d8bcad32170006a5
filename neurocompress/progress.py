"""How a long piece of work says where it is."""

from __future__ import annotations

from collections.abc import Callable

#: Told a phase, what is done of it and what there is to do (0 where nobody knows).
Progress = Callable[[str, int, int], None]


def silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
