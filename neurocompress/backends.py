"""Back ends: what writes a network for a target. Third parties add theirs through an entry point.

A back end is a module (entry point group "neurocompress.targets") with either
    write(network, path, metadata=...)     a file of the float network, as the `nir` back end does, or
    emit(network, folder)                  a folder made of the integer network, and refusals(network) -> problems.
Where some of these are known before compression it has foreseen(network, connections) -> (layer, what, fix) of each,
and UNFORESEEN, a sentence on the others.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from types import ModuleType

from .errors import refuse

GROUP = "neurocompress.targets"


def backend(name: str) -> ModuleType:
    """The back end of that name. Raises `Refused` for an unknown one."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise refuse(f"unknown back end '{name}'", fix=f"Installed: {', '.join(sorted(found)) or 'none'}")
    module: ModuleType = found[name].load()
    return module
