"""The report of a deployment: one data structure, of which JSON and tables are views."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..chip.on_chip.real_network import OnChip
from ..chip.profile.load import Profile
from ..data.calibration import Split
from ..deployment.compressed import Compressed
from ..emulation.emulator import Overflow
from ..fit.check import Fit
from ..network.connections import Connection, connections
from ..network.graph import Network
from ..shown import listed, several
from ..verification.operations import Operations, neuron_updates, operations, total
from ..verification.verify import Change, Drift, Run, VirtualChips
from ..version import __version__
from .energy import Energy, energy
from .inputs import InputReport
from .readout import ReadOut, read_out

SCHEMA = "neurocompress.report/1"


@dataclass(frozen=True, eq=False)
class LayerReport:
    """One population with the weights into it. Sparsities are shares of zero weights; rates are spikes per neuron and
    step; operations are per sample, summed over the connections into it; scale_share and missed_by as in
    CompressedLayer. membrane: of a population that never spikes, whose rates, dead neurons, distance and mismatches
    are None."""

    population: str
    layers: tuple[str, ...]
    neurons: int
    parameters: int
    bits: int
    sparsity_before: float
    sparsity: float
    memory_float32: int
    memory: int
    cores: int
    rate_before: float | None
    rate: float | None
    dead_before: int | None
    dead: int | None
    sops_before: Operations
    sops: Operations
    neuron_updates: int
    van_rossum: float | None
    mismatches: int | None
    scale_share: float | None
    missed_by: float | None
    u_wrapped: int
    v_clipped: int
    membrane: Drift | None = None


@dataclass(frozen=True)
class Spread:
    """Virtual analog chips: percent right (None without labels) and percent as the float network, over the samples
    that every chip saw; deviation is the standard deviation from chip to chip."""

    chips: int
    samples: int
    accuracy_mean: float | None
    accuracy_worst: float | None
    accuracy_deviation: float | None
    agreement_mean: float
    agreement_worst: float


@dataclass(frozen=True, eq=False)
class Report:
    """accuracy: by engine ("float", "sent" where values are sent as graded spikes: the float network on what is sent,
    "compressed", and "emulated" where the chip's arithmetic is known), percent of all labelled samples; held_out: of
    those that did not calibrate; agreement: percent of samples classified as the float network does. None where there
    are no labels. virtual: of an analog chip, None for others."""

    model: str
    target: str
    options: Mapping[str, Any]
    conventions: Mapping[str, Any]
    samples: int
    steps: int
    calibration: Split
    accuracy: dict[str, float] | None
    held_out: dict[str, float] | None
    agreement: dict[str, float]
    virtual: Spread | None
    layers: tuple[LayerReport, ...]
    fit: Fit
    energy_before: Energy
    energy: Energy
    assumptions: tuple[str, ...]
    latency: dict[str, int]
    way: InputReport
    readout: ReadOut

    def lines(self) -> list[str]:
        """Accuracy of every engine, then every layer, one line each."""
        source = "synthetic spikes" if self.calibration.synthetic else "calibrated samples included"
        found = [f"{self.samples:,} samples of {self.steps} steps, {source}", "no accuracy" if not self.accuracy else (
            "accuracy: " + ", ".join(f"{name} {right:.2f} %" for name, right in self.accuracy.items()))]
        found += [f"{x.population}: {x.neurons:,} neurons, {x.parameters:,} parameters, {x.bits} bit, "
                  f"{x.sparsity:.1%} zeros, {several(x.cores, 'core')}" for x in self.layers]
        return found

    def __repr__(self) -> str:
        return listed(f"Report on {self.model} for {self.fit.title}", self.lines(), self.assumptions)

    @property
    def gates_passed(self) -> bool:
        """No register wrapped: what the chip computes is what the network means."""
        return not any(layer.u_wrapped for layer in self.layers)

    @property
    def totals(self) -> dict[str, float]:
        parts = self.layers
        after, before = total(x.sops for x in parts), total(x.sops_before for x in parts)
        return {
            "neurons": sum(x.neurons for x in parts), "parameters": sum(x.parameters for x in parts),
            "memory_float32": sum(x.memory_float32 for x in parts), "memory": sum(x.memory for x in parts),
            "cores": self.fit.cores, "neuron_updates": sum(x.neuron_updates for x in parts),
            "sops_effective_before": before.sops_effective, "sops_effective": after.sops_effective,
            "sops_unmasked": after.sops_unmasked, "sops_dense": after.sops_dense,
        }

    @property
    def _host(self) -> dict[str, Any] | None:
        """What the host computes before the chip and behind it."""
        before, behind = self.way.host, self.readout.host
        parts = {"input": before and before.to_dict(), "readout": behind and behind.to_dict()}
        return {name: part for name, part in parts.items() if part} or None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for report.json and --json."""
        return {
            "schema": SCHEMA, "version": __version__, "python": platform.python_version(),
            "model": self.model, "target": self.target, "options": dict(self.options),
            "conventions": dict(self.conventions), "samples": self.samples, "steps": self.steps,
            "calibration": asdict(self.calibration), "accuracy": self.accuracy, "accuracy_held_out": self.held_out,
            "agreement_with_float": self.agreement,
            "virtual_chips": None if self.virtual is None else asdict(self.virtual), "gates_passed": self.gates_passed,
            "layers": [_layer(x) for x in self.layers], "totals": self.totals, "fit": self.fit.to_dict(),
            "energy_before": _energy(self.energy_before), "energy": _energy(self.energy),
            "assumptions": list(self.assumptions), "latency_steps": self.latency, "input": self.way.to_dict(),
            "host": self._host, "readout": self.readout.to_dict(),
        }


def _operations(found: Operations) -> dict[str, float]:
    return {"ac": found.ac, "mac": found.mac, "sops_effective": found.sops_effective,
            "sops_unmasked": found.sops_unmasked, "sops_dense": found.sops_dense}


def _layer(layer: LayerReport) -> dict[str, Any]:
    plain = {k: v for k, v in vars(layer).items() if k not in ("sops", "sops_before")}
    return plain | {"membrane": None if layer.membrane is None else vars(layer.membrane), "layers": list(layer.layers),
                    "operations": _operations(layer.sops), "operations_before": _operations(layer.sops_before)}


def _energy(found: Energy) -> dict[str, Any]:
    return asdict(found)


def _percent(right: np.ndarray) -> float:
    return 100.0 * float(np.mean(right)) if len(right) else float("nan")


def make_report(
    *, model: str, profile: Profile, network: Network, compressed: Compressed, integer: OnChip, fit: Fit,
    runs: dict[str, Run], changes: dict[tuple[str, str], tuple[Change, ...]], overflow: dict[str, Overflow],
    virtual: VirtualChips | None, labels: np.ndarray | None, calibration: Split, options: Mapping[str, Any],
    way: InputReport,
) -> Report:
    """Gathers what the stages found."""
    before_of = {c.name: c for c in connections(compressed.original)}
    after_of = connections(compressed.network)
    after = "emulated" if "emulated" in runs else "compressed"
    source = runs[after].activities[network.input]
    samples, steps = source.samples, source.steps
    fit_rows = {row.population: row for row in fit.rows}
    compared = {c.population: c for c in changes["float", after]}
    layers = []
    for p in compressed.network.populations:
        into = [c for c in after_of if c.target == p]
        names = tuple(dict.fromkeys(c.layer for c in into))
        found = [compressed.layers[n] for n in names if n in compressed.layers]
        row, change = fit_rows[p], compared[p]
        weights = np.concatenate([np.asarray(compressed.original.nodes[n].weight).ravel()  # type: ignore[union-attr]
                                  for n in names if n in compressed.layers] or [np.ones(1)])
        integers = np.concatenate([layer.weight.ravel() for layer in found] or [np.ones(1)])
        layers.append(LayerReport(
            p, names, row.neurons, row.parameters, row.bits, float(np.mean(weights == 0)),
            float(np.mean(integers == 0)), row.memory_float32, row.memory, row.cores,
            change.rate_before, change.rate_after, change.dead_before, change.dead_after,
            total(operations(before_of[c.name], runs["float"].activities[c.source]) for c in into),
            total(operations(c, runs[after].activities[c.source]) for c in into),
            neuron_updates(row.neurons, steps), change.van_rossum, change.mismatches,
            found[0].scale_share if found else None, found[0].missed_by if found else None,
            overflow.get(p, Overflow()).u_wrapped, overflow.get(p, Overflow()).v_clipped, change.membrane))
    accuracy = held_out = None
    if labels is not None:
        accuracy = {name: _percent(run.classes == labels) for name, run in runs.items()}
        rest = np.setdiff1d(np.arange(len(labels)), np.array(calibration.indices or (), dtype=int))
        if len(rest):
            held_out = {name: _percent(run.classes[rest] == labels[rest]) for name, run in runs.items()}
    agreement = {name: _percent(run.classes == runs["float"].classes) for name, run in runs.items() if name != "float"}
    section = profile.energy.model_dump()
    updates = sum(x.neuron_updates for x in layers)
    return Report(
        model, profile.name, options, network.conventions.to_dict(), samples, steps, calibration, accuracy, held_out,
        agreement, None if virtual is None else _spread(virtual, runs["float"], labels), tuple(layers), fit,
        energy(section, total(x.sops_before for x in layers), updates),
        energy(section, total(x.sops for x in layers), updates),
        (*compressed.network.notes, *compressed.notes, *integer.notes, *_pooled(after_of), *_said(calibration, layers),
         *_cost(accuracy)),
        {p.name: p.latency for p in integer.populations}, way, read_out(compressed, runs, after))


def _spread(virtual: VirtualChips, float_run: Run, labels: np.ndarray | None) -> Spread:
    agreement = 100.0 * (virtual.classes == float_run.classes[virtual.samples]).mean(axis=1)
    right = None if labels is None else 100.0 * (virtual.classes == labels[virtual.samples]).mean(axis=1)
    mean, worst, deviation = [None] * 3 if right is None else map(float, (right.mean(), right.min(), right.std()))
    chips, samples = virtual.classes.shape
    return Spread(chips, samples, mean, worst, deviation, float(agreement.mean()), float(agreement.min()))


def _pooled(found: tuple[Connection, ...]) -> tuple[str, ...]:
    """Pooling costs memory on a chip, which has synapses and neurons and nothing else."""
    return tuple(dict.fromkeys(
        f"the pooling before '{c.layer}' is folded into it: each of its weights drives {c.repeats} synapses"
        for c in found if c.repeats > 1))


def _cost(accuracy: dict[str, float] | None) -> tuple[str, ...]:
    """What it costs the float network that values are sent as graded spikes."""
    if accuracy is None or "sent" not in accuracy:
        return ()
    return (f"sending the values as graded spikes takes the float network from {accuracy['float']:.2f} % to "
            f"{accuracy['sent']:.2f} % of all samples right ('sent' above)",)


def _said(calibration: Split, layers: list[LayerReport]) -> tuple[str, ...]:
    """Fallbacks and losses that a reader must not have to look for."""
    said = []
    if calibration.synthetic:
        said.append(f"CALIBRATED ON {calibration.source.upper()}: no accuracy is reported; give --data")
    for layer in layers:
        if layer.u_wrapped:
            said.append(f"'{layer.population}': synaptic current wrapped {layer.u_wrapped} times on the chip")
        if layer.v_clipped:
            said.append(f"'{layer.population}': membrane potential was clipped {layer.v_clipped} times on the chip")
        if layer.dead is not None and layer.dead_before is not None and layer.dead > layer.dead_before:
            said.append(f"'{layer.population}': {layer.dead - layer.dead_before} neurons fell silent "
                        f"({layer.dead} of {layer.neurons} never spiked)")
    return tuple(said)
