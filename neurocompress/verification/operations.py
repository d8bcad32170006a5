"""Synaptic operations: how many synapses the spikes of a recording reach, counted without running them.

A source that sends in n steps drives n times its fan-out, so a connection's operations are the dot product of two
vectors over its sources. How the counts compare with those of others:
    effective   NeuroBench's Effective_ACs and Effective_MACs: neither zero weights, nor zero inputs, nor padding.
    unmasked    SpikingJelly's SynOpCounter and sinabs: zero weights count as well.
    dense       NeuroBench's Dense: every synapse in every step.
A graded spike is one event, as it is one message on a chip. It is a multiply-accumulate (MAC); a spike of 1 or -1 is
an accumulate (AC). As in NeuroBench one value beyond {-1, 0, 1} makes all of its source population MAC.

Pooling is part of the connection: every spike is delivered to every synapse behind its window, as on a chip.
NeuroBench, which sees the layer behind the pool, counts spikes that meet in one window and step once, and calls
averages MAC; its count is the smaller one, and equal where no two spikes meet.
Spikes of the last step count although what they drive may lie after the end of the recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..network.connections import Connection
from ..network.kernel import Kernel
from ..shown import brief

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Activity:
    """What a population (or the input) sent: enough to count operations, small enough to keep for every layer.

    events: (neurons,) steps in which each one sent something, over all samples.
    graded: some value was none of -1, 0 and 1.
    """

    events: Ints
    samples: int
    steps: int
    graded: bool

    __repr__ = brief

    def __add__(self, other: Activity) -> Activity:
        """Activity of two batches of samples together."""
        if self.steps != other.steps:
            raise ValueError(f"batches of {self.steps} and {other.steps} steps can not be added")
        return Activity(
            self.events + other.events, self.samples + other.samples, self.steps, self.graded or other.graded)

    @property
    def rates(self) -> NDArray[np.float64]:
        """(neurons,) share of the steps in which each neuron spiked; 0 without any step."""
        return self.events / max(self.samples * self.steps, 1)

    @property
    def firing_rate(self) -> float:
        """Mean over the neurons of `rates`: spikes per neuron and step."""
        return float(self.rates.mean())

    @property
    def dead(self) -> int:
        """Neurons that never spiked."""
        return int(np.count_nonzero(self.events == 0))


def activity(spikes: np.ndarray) -> Activity:
    """Activity from spikes (samples, steps, *shape) of any numeric type; neurons in row-major order of the shape."""
    samples, steps = spikes.shape[:2]
    events = np.zeros(int(np.prod(spikes.shape[2:])), dtype=np.int64)
    graded = False
    for sample in spikes:  # one at a time, so that the masks stay small
        sent = sample != 0
        events += np.count_nonzero(sent, axis=0).ravel()
        if not graded and spikes.dtype != np.bool_:
            graded = bool(np.any(sent & (sample != 1) & (sample != -1)))
    return Activity(events, samples, steps, graded)


@dataclass(frozen=True)
class Operations:
    """Synaptic operations per sample of one connection, or of several together.

    sops_unmasked and sops_dense of a connection stored as csr_array count its stored synapses.
    """

    name: str
    ac: float
    mac: float
    sops_unmasked: float
    sops_dense: float

    @property
    def sops_effective(self) -> float:
        return self.ac + self.mac


def operations(connection: Connection, source: Activity) -> Operations:
    """Operations per sample that `source`, the activity of the connection's source, causes in it."""
    if source.events.size != connection.n_sources:
        raise ValueError(f"{connection.name}: activity of {source.events.size} neurons, {connection.n_sources} sources")
    samples = max(source.samples, 1)
    effective = float(source.events @ fan_out(connection)) / samples
    unmasked = fan_out(connection, masked=False)
    return Operations(
        connection.name,
        ac=0.0 if source.graded else effective,
        mac=effective if source.graded else 0.0,
        sops_unmasked=float(source.events @ unmasked) / samples,
        sops_dense=float(unmasked.sum()) * source.steps,
    )


def total(parts: Iterable[Operations], name: str = "total") -> Operations:
    """The sum over connections."""
    listed = list(parts)
    return Operations(
        name, sum(p.ac for p in listed), sum(p.mac for p in listed),
        sum(p.sops_unmasked for p in listed), sum(p.sops_dense for p in listed),
    )


def neuron_updates(neurons: int, steps: int) -> int:
    """Updates of a population per sample: a chip of synchronous steps updates every neuron in every step."""
    return neurons * steps


def fan_out(connection: Connection, masked: bool = True) -> Ints:
    """Synapses that leave each source, (sources,) in row-major order of the source's shape; none lead into padding.

    masked: only weights that are not zero. Otherwise zeros count too (of a csr_array those it stores).
    """
    weight, kernel = connection.weight, connection.kernel
    if isinstance(weight, sparse.csr_array):
        found = np.bincount(weight.indices[weight.data != 0] if masked else weight.indices, minlength=weight.shape[1])
        return np.asarray(found, dtype=np.int64)
    present = weight != 0 if masked else np.ones(weight.shape, dtype=np.bool_)
    if kernel is not None:
        return _kernel_fan_out(kernel, present)
    return np.asarray(present.sum(axis=0), dtype=np.int64)


def _kernel_fan_out(kernel: Kernel, present: NDArray[np.bool_]) -> Ints:
    """Fan-out from the geometry, without a list of synapses: a tap is reached when it is on every axis.

    present: (c_out, c_in / groups, *kernel), the weights that count.
    """
    c_out, c_group, *size = present.shape
    # (c_in, *kernel): target channels that a source channel reaches through each tap
    counts = present.reshape(kernel.groups, c_out // kernel.groups, c_group, *size).sum(axis=1, dtype=np.int64)
    counts = counts.reshape(kernel.groups * c_group, *size)
    for axis, (n_in, n_out, k, stride, (before, _), dilation) in enumerate(
        zip(kernel.input_shape[1:], kernel.output_shape[1:], size, kernel.stride, kernel.padding, kernel.dilation,
            strict=True), start=1
    ):
        # input at = output * stride - before + tap * dilation
        at = np.arange(n_in)[None, :] + before - np.arange(k)[:, None] * dilation
        hits = (at % stride == 0) & (at >= 0) & (at < n_out * stride)  # (kernel, inputs)
        counts = np.moveaxis(np.tensordot(counts, hits.astype(np.int64), axes=(axis, 0)), -1, axis)
    return np.asarray(counts.ravel(), dtype=np.int64)
