"""A network on its chip in one .npz file: what a bundle keeps, so that it runs again without the model."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from ...data.arrays import read_arrays, save_arrays
from ...errors import refuse
from ...network import conventions
from ...network.conventions import Conventions
from ...network.discrete import Step
from ...network.kernel import Kernel
from ..arithmetic import Analog, Arithmetic, FloatState, Unknown
from .graded import Graded
from .integer_check import check_network
from .integer_network import IntegerNetwork, Population, Synapses
from .real_network import OnChip, RealNetwork, RealPopulation

FORMAT = "neurocompress-integer/1"


#: Classes by the form of arithmetic in the header; files of version 0.1.0 name none and are integer.
FORMS: dict[str, tuple[type[Any], type[Any], type[Any]]] = {
    "integer": (IntegerNetwork, Population, Arithmetic),
    "float-state": (RealNetwork, RealPopulation, FloatState),
    "analog": (RealNetwork, RealPopulation, Analog),
    "unknown": (RealNetwork, RealPopulation, Unknown),
}


def save(network: OnChip, path: Path) -> None:
    """Writes the network, atomically."""
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, np.ndarray):
            arrays[key] = value
            return {"array": key}
        if sparse.issparse(value):
            csr = sparse.csr_array(value)
            for part in ("data", "indices", "indptr"):
                arrays[f"{key}.{part}"] = getattr(csr, part)
            return {"csr": key, "shape": list(csr.shape)}
        if isinstance(value, Kernel):
            return {"kernel": asdict(value)}
        if isinstance(value, Conventions):
            return {"conventions": value.to_dict()}
        if isinstance(value, Step):
            return {"step": {f.name: plain(getattr(value, f.name), f"{key}.{f.name}") for f in fields(value)}}
        return value.item() if isinstance(value, np.generic) else value

    def whole(item: Any, key: str) -> dict[str, Any]:
        return {f.name: plain(getattr(item, f.name), f"{key}.{f.name}") for f in fields(item)}

    header = {
        "format": FORMAT, "form": next(f for f, kinds in FORMS.items() if kinds[2] is type(network.arithmetic)),
        "input": network.input, "input_shape": network.input_shape, "output": network.output,
        "arithmetic": asdict(network.arithmetic), "notes": network.notes,
        "input_message_bits": network.input_message_bits,
        "graded_input": None if network.graded_input is None else asdict(network.graded_input),
        "reading": network.reading, "host": network.host,
        "populations": [whole(p, f"p{k}") for k, p in enumerate(network.populations)],
        "synapses": [whole(s, f"s{k}") for k, s in enumerate(network.synapses)],
    }
    save_arrays(path, {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays})


def load(path: Path) -> OnChip:
    """Reads what `save` wrote. Raises `Refused` for anything else."""
    arrays = read_arrays(path)
    try:
        header = json.loads(arrays["header"].tobytes().decode())
        if header["format"] != FORMAT:
            raise refuse(f"it has format {header['format']!r}, expected {FORMAT!r}", file=str(path),
                         fix="Deploy again with this version")

        def value(stored: Any) -> Any:
            if isinstance(stored, dict) and "array" in stored:
                return arrays[stored["array"]]
            if isinstance(stored, dict) and "csr" in stored:
                parts = tuple(arrays[f"{stored['csr']}.{part}"] for part in ("data", "indices", "indptr"))
                return sparse.csr_array(parts, shape=tuple(stored["shape"]))
            if isinstance(stored, dict) and "kernel" in stored:
                kernel = {k: _tuples(v) for k, v in stored["kernel"].items()}
                return Kernel(**kernel)
            if isinstance(stored, dict) and "conventions" in stored:
                return conventions.from_dict(stored["conventions"], str(path))
            if isinstance(stored, dict) and "step" in stored:
                return Step(**{name: value(part) for name, part in stored["step"].items()})
            return stored

        def item(kind: Any, stored: dict[str, Any]) -> Any:
            found = {name: value(part) for name, part in stored.items()}
            return kind(**{n: _tuples(v) if n.endswith("shape") else v for n, v in found.items()})

        step = header.get("graded_input")
        kind, population, arithmetic = FORMS[header.get("form", "integer")]
        made: OnChip = kind(
            header["input"], tuple(header["input_shape"]), header["output"],
            tuple(item(population, p) for p in header["populations"]),
            tuple(item(Synapses, s) for s in header["synapses"]),
            arithmetic(**{n: _tuples(v) for n, v in header["arithmetic"].items()}), tuple(header["notes"]),
            header["input_message_bits"], None if step is None else Graded(**step), header.get("reading", "mean"),
            bool(header.get("host", False)))
        check_network(made, str(path))
        return made
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise refuse(f"holds no integer network ({type(error).__name__}: {error})", file=str(path),
                     fix="Deploy the model again") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
