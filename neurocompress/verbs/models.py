"""A model as people have it: a file, a bundle, a `Network`, or a `nir.NIRGraph`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import Refused, refuse
from ..network.graph import Network

if TYPE_CHECKING:
    import nir

    Model: TypeAlias = str | Path | Network | nir.NIRGraph

EXPECTED = "Give a path, a neurocompress Network or a nir.NIRGraph"


def path_of(model: object) -> Path | None:
    """The path that `model` is; None for a network in memory. Raises `Refused` for anything else."""
    if isinstance(model, (str, os.PathLike)):
        return Path(model)
    if isinstance(model, Network) or is_graph(model):
        return None
    raise unusable(model)


def is_graph(model: object) -> bool:
    """Whether it is an object of the nir package, which is not imported for it."""
    package = sys.modules.get("nir")
    return package is not None and isinstance(model, package.NIRNode)


def title_of(model: object) -> str:
    """What reports and messages call it."""
    path = path_of(model)
    return str(path) if path is not None else f"a {type(model).__name__} in memory"


def unusable(model: object) -> Refused:
    """For an object of a type that no verb takes."""
    got = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
    bases = {base.__module__.split(".")[0] + "." + base.__name__ for base in type(model).__mro__}
    fix = EXPECTED
    if "torch.Module" in bases:
        fix = f"Export it to NIR first (the framework's exporter, or nirtorch): {EXPECTED[0].lower()}{EXPECTED[1:]}"
    return refuse(f"the model is of type {got}", fix=fix)
