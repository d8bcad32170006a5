"""The verb load: a network from a file, a bundle or memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import refuse
from ..files import bundle
from ..frontends import nir as nir_file
from ..network.conventions import Overrides
from ..network.graph import Network
from .models import path_of

if TYPE_CHECKING:
    from .models import Model


def load(
    model: Model, *, preset: str | None = None, dt: float | None = None, reset: str | None = None,
    convention: Overrides = (),
) -> Network:
    """A network from a NIR file, a bundle (its compressed model) or a `nir.NIRGraph`; a `Network` is given back.

    preset: a platform's reading of the file. dt: seconds per time step. reset: "zero" or "subtract". convention: any
    others, as {"v_floor": False} or ["v_floor=false"]. Raises `Refused`.
    """
    path = path_of(model)
    if isinstance(model, Network):
        if preset or convention or dt is not None or reset is not None:
            raise refuse("a Network has its conventions, and preset, dt, reset and convention say how a file is read",
                         fix="Give them to load(), or dataclasses.replace(network, conventions=...)")
        return model
    if path is None:
        return nir_file.read(model, preset=preset, dt=dt, reset=reset, convention=convention)
    if path.is_dir() and not bundle.is_bundle(path):
        raise refuse("it is a folder, and no bundle", file=str(path),
                     fix="Give a .nir file, or a folder that `neurocompress deploy` wrote")
    if path.is_dir():
        path = bundle.require(path, bundle.MODEL)
    return nir_file.read(path, preset=preset, dt=dt, reset=reset, convention=convention)
