"""The rule of fitting that concerns the files that a target is written as."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from ...backends import backend
from .rule import Case, Finding, Undecided, Violation, rule

_backend = cache(backend)  # the list of what is installed takes long to read, and rules are asked again and again


@rule("NC113", "emits", stops=True, decided="check, else deploy")
def files(case: Case) -> Iterator[Finding]:
    """Layers follow each other in a way that every file format of the target can express.

    Fix: Rebuild the layer as the message says, or write another format.
    """
    for name in case.profile.emits:
        module = _backend(name)
        if not hasattr(module, "foreseen"):
            continue
        found = list(module.foreseen(case.network, case.connections))
        for layer, what, fix in found:
            yield Violation("NC113", layer, f"{what} in a {name} file", 1, 0, "such layers", fix)
        if not found:
            yield Undecided("NC113", case.network.populations[-1], f"{name} file", module.UNFORESEEN)
