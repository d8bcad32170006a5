"""Python names for the processes of a program, close to the names of the network's nodes."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A valid Python identifier for each name, all different: the name itself where possible ("fc1"), or close to it.

    taken: identifiers that the program uses for something else; a name among them gets an underscore behind it.
    """
    used = {*taken, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
    result = []
    for name in names:
        base = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "layer"
        if base[0].isdigit():
            base = f"layer_{base}"
        candidate, n = base, 1
        while candidate in used:
            n += 1
            candidate = f"{base}_" if n == 2 else f"{base}_{n - 1}"
        used.add(candidate)
        result.append(candidate)
    return result
