"""What compression without a chip did: by layer, by population, and on the data it was calibrated with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...network.readout import read_by
from ...network.titles import titles_of
from ...verification.measure import Measured, stored_bytes
from .figures import change, count, percent, rate, share, size
from .tables import console, membranes, notes, table

if TYPE_CHECKING:
    from ...compression.oneshot import Result


def compressed_data(result: Result, measured: Measured | None, out: Path) -> dict[str, Any]:
    """For JSON. Accuracy, operations and distances are those on the calibration data."""
    before, after = stored_bytes(result)
    found: dict[str, Any] = {
        "out": out, "recipe": result.recipe.model_dump(mode="json"), "sparsity": result.sparsity,
        "bytes_float32": before, "bytes_estimate": after, "notes": result.notes, "read_by": read_by(result.network),
        "layers": [{
            "name": name, "weights": layer.weight.size, "sparsity": float(np.mean(layer.weight == 0)),
            "bits": layer.bits, "range": layer.grid_range, "error": layer.error, "share_lost": layer.share_lost,
            "scale_share": layer.scale_share, "dead_inputs": layer.dead_inputs, "damping": layer.damping,
        } for name, layer in result.layers.items()],
    }
    if measured is not None:
        found |= {
            "calibration": {
                "accuracy": measured.accuracy, "operations": measured.operations,
                "agreement": 100.0 * float(np.mean(
                    measured.runs["float"].classes == measured.runs["compressed"].classes)),
                "populations": [vars(c) | {"membrane": c.membrane and vars(c.membrane)}
                                for c in measured.populations]}}
    return found


def show(result: Result, measured: Measured | None, out: Path) -> None:
    """For people."""
    to, of = console(), titles_of(result.original)
    before, after = stored_bytes(result)
    to.print(f"{out}: {share(result.sparsity)} of all weights are zero, {change(size(before), size(after))} (estimate)",
             style="bold")
    to.print()
    table(to, "Layers", ("layer", "weights", "zeros", "bits", "potential lost", "inputs without a spike"),
          [(of(name), count(layer.weight.size), share(float(np.mean(layer.weight == 0))),
            "float" if layer.bits is None else str(layer.bits), share(layer.share_lost), count(layer.dead_inputs))
           for name, layer in result.layers.items()]
          + [(of(name), count(node.weight.size), share(float(np.mean(node.weight == 0))), "as it was", "", "")
             for name, node in result.kept.items()])
    if measured is not None:
        rows = [(of(c.population), change(rate(c.rate_before), rate(c.rate_after)),
                 change(count(c.dead_before), count(c.dead_after)), f"{c.van_rossum:.3g}")
                for c in measured.populations if c.membrane is None]
        table(to, "Populations, on the calibration data",
              ("population", "spikes per neuron and step", "silent neurons", "Van Rossum distance"), rows)
        membranes(to, "Membranes, on the calibration data",
                  {c.population: c.membrane for c in measured.populations if c.membrane is not None})
        to.print(f"synaptic operations a sample: {change(*map(count, measured.operations))}")
        if measured.accuracy is not None:
            to.print(f"accuracy on the calibration data, by the {read_by(result.network)}: "
                     f"{change(*map(percent, measured.accuracy))}; `neurocompress compare` measures it on other data")
        to.print()
    notes(to, "Notes", map(of, result.notes))
