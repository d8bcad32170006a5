"""Finished populations of a run on disk, so that a killed run goes on where it stopped, with the same result."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import refuse
from ..network.graph import Network
from .layer import CompressedLayer

_ARRAYS = ("weight", "m", "step", "mask", "bias")


class Checkpoint:
    """A folder beside the output: one .npz for each finished population, and the key of the run that wrote it.

    What another run wrote (other weights, data, recipe or version) is removed first. Raises `Refused` for a folder
    that is something else.
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        stamp = folder / "key"
        if folder.exists() and not stamp.is_file():
            raise refuse("it exists and holds no unfinished run", file=str(folder),
                         fix="Move it, or choose another --out")
        if folder.exists() and stamp.read_text(encoding="ascii", errors="replace") != key:
            shutil.rmtree(folder)

    def _file(self, population: str) -> Path:
        return self.folder / (hashlib.sha256(population.encode()).hexdigest()[:16] + ".npz")

    def get(self, population: str) -> dict[str, CompressedLayer] | None:
        """A population's layers, or None when they are not finished (or the file is damaged)."""
        try:
            with np.load(self._file(population), allow_pickle=False) as found:
                facts = json.loads(str(found["facts"]))
                return {name: _layer(k, fact, found) for k, (name, fact) in enumerate(facts.items())}
        except (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None

    def put(self, population: str, layers: dict[str, CompressedLayer]) -> None:
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, dict[str, object]] = {}
        for k, (name, layer) in enumerate(layers.items()):
            held = [a for a in _ARRAYS if getattr(layer, a) is not None]
            facts[name] = {f.name: getattr(layer, f.name) for f in fields(layer) if f.name not in _ARRAYS}
            facts[name]["held"] = held
            arrays |= {f"{k}.{a}": getattr(layer, a) for a in held}
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            (self.folder / "key").write_text(self.key, encoding="ascii")
        target = self._file(population)
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **(arrays | {"facts": np.array(json.dumps(facts))}))  # type: ignore[arg-type]
        partial.replace(target)

    def remove(self) -> None:
        """The run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _layer(k: int, fact, found) -> CompressedLayer:  # type: ignore[no-untyped-def]
    held = fact.pop("held")
    arrays: dict[str, Any] = {a: found[f"{k}.{a}"] if a in held else None for a in _ARRAYS}
    span = fact.pop("grid_range")
    return CompressedLayer(**arrays, grid_range=None if span is None else tuple(span), **fact)


def key_of(network: Network, spikes: np.ndarray | None, *more: str) -> str:
    """A digest of everything that a result depends on."""
    digest = hashlib.sha256()
    for name in sorted(network.nodes):
        digest.update(f"{name}:{type(network.nodes[name]).__name__}".encode())
        for field in sorted(vars(network.nodes[name])):
            value = getattr(network.nodes[name], field)
            digest.update(field.encode())
            plain = np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            digest.update(plain)
    for text in (repr(network.edges), repr(network.conventions.to_dict()), *more):
        digest.update(text.encode())
    if spikes is not None:
        digest.update(repr((spikes.shape, str(spikes.dtype))).encode())
        digest.update(np.ascontiguousarray(spikes).data)
    return digest.hexdigest()
