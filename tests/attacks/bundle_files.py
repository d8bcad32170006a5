"""Bundles whose report, integers or model were changed after `deploy` wrote them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.attacks import data_files, nir_files, wild

ODD = (None, True, False, [], {}, [[]], {"array": "p0.vth"}, {"array": "none"}, {"csr": "s0.weight", "shape": [2, 2]},
       {"kernel": {}},
       {"step": {}}, {"conventions": {}}, {"conventions": {"reset": "x"}}, [1, "a"], [3], [10**9, 10**9], [-1], "x",
       10**30, -1, 0, 1, 2, 63, 64, 1e308, 0.5)


def mutated(data: Any, rng: random.Random) -> Any:
    """A JSON tree with one value changed, lost or added."""
    places: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else []
        places += [(item, k) for k in keys]
        waiting += [item[k] for k in keys]
    if not places:
        return rng.choice(ODD)
    where, key = rng.choice(places)
    turn = rng.randrange(6)
    if turn == 0:
        del where[key]
    elif turn == 1 and isinstance(where, dict):
        where[wild.text(rng)] = rng.choice(ODD)
    elif turn == 2:
        where[key] = wild.text(rng)
    elif turn == 3:
        where[key] = wild.number(rng)
    else:
        where[key] = rng.choice(ODD)
    return data


def case(base: Path, folder: Path, rng: random.Random) -> Path:
    """A copy of the bundle `base` with something wrong in it."""
    bundle = folder / "b"
    shutil.copytree(base, bundle)
    turn = rng.randrange(10)
    if turn < 3:
        report = json.loads((bundle / "report.json").read_text())
        for _ in range(rng.choice((1, 2))):
            report = mutated(report, rng)
        text = json.dumps(report)
        (bundle / "report.json").write_text(rng.choice((text,) * 8 + (text[:-5], "[" * 9999, "9" * 9999, "null",
                                                                      "\ufeff" + text)))
    elif turn < 9:
        with np.load(bundle / "integer.npz") as file:
            arrays = dict(file)
        header = json.loads(arrays["header"].tobytes())
        for _ in range(rng.choice((0, 1, 1, 2))):
            header = mutated(header, rng)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        if rng.random() < 0.4:
            key = rng.choice([*arrays])
            if rng.random() < 0.3:
                del arrays[key]
            else:
                try:
                    arrays[key] = np.asarray(wild.changed(arrays[key], rng))
                except (ValueError, TypeError, OverflowError):
                    arrays[key] = wild.array(rng)
        if rng.random() < 0.1 and arrays:
            data_files.pack(bundle / "integer.npz", arrays, rng)
        else:
            np.savez(bundle / "integer.npz", **arrays)
    else:
        shutil.copy(nir_files.case(folder, rng), bundle / "model.nir")
    return bundle
