"""Spikes as people have them: a file, an array, a tensor, (spikes, labels), or batches that no memory holds at once.

Everywhere samples come first: (samples, timesteps, *input shape). What is in memory is checked as a file's arrays
are, a batch when it comes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import refuse
from .spikes import SpikeData, checked, load_spikes

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    Values: TypeAlias = np.ndarray | torch.Tensor
    Batch: TypeAlias = Values | tuple[Values, Values | None] | list[Values]
    Data: TypeAlias = str | Path | SpikeData | Batch | Iterable[Batch]

EXPECTED = ("Give a .npz file, an array or tensor (samples, timesteps, *input shape), (spikes, labels), or an iterable "
            "of such batches")


class Stream:
    """Batches of samples, each checked when it comes, to be gone through once; memory holds one at a time.

    All batches have the same number of steps, and all of them labels or none.
    """

    def __init__(self, batches: Iterable[object], input_shape: tuple[int, ...] | None, analog: bool, name: str,
                 steps: int | None = None):
        self.name = name
        self._waiting: deque[SpikeData] = deque()
        self._coming = self._checked(batches, input_shape, analog, steps)

    def __repr__(self) -> str:
        return f"Stream of batches: {self.name}"

    def __iter__(self) -> Iterator[SpikeData]:
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._coming

    def head(self, samples: int) -> SpikeData:
        """The first so many samples (all, where there are fewer); they still come when the stream is gone through."""
        while sum(batch.samples for batch in self._waiting) < samples:
            batch = next(self._coming, None)
            if batch is None:
                break
            self._waiting.append(batch)
        return joined(self._waiting, self.name).first(samples)

    def whole(self) -> SpikeData:
        """Everything at once, where a verb can not do with less."""
        return joined(list(self), self.name)

    @property
    def ended(self) -> bool:
        """Whether nothing comes after what `head` has read."""
        batch = next(self._coming, None)
        if batch is not None:
            self._waiting.append(batch)
        return batch is None

    def _checked(
        self, batches: Iterable[object], input_shape: tuple[int, ...] | None, analog: bool, steps: int | None
    ) -> Iterator[SpikeData]:
        first: SpikeData | None = None
        for place, batch in enumerate(batches):
            name = f"batch {place} of {self.name}"
            found = _in_memory(batch, input_shape, analog, name)
            if found is None:
                raise refuse(f"it is {_kind(batch)}", file=name, fix="Give batches of (spikes, labels), or of spikes")
            found = found.repeated(steps)
            first = first or found
            if found.steps != first.steps:
                raise refuse(f"it has {found.steps} time steps, the first batch {first.steps}", file=name,
                             fix="Cut or pad the samples to the same number of steps")
            if (found.labels is None) != (first.labels is None):
                raise refuse("some batches have labels and some have none", file=name, fix="Give all of them labels")
            yield replace(found, name=self.name)
        if first is None:
            raise refuse("it gives no batch (an iterator can be used once only)", file=self.name,
                         fix="Give a list of batches, a DataLoader or a new iterator")


def spikes_of(
    data: object, input_shape: tuple[int, ...] | None = None, *, analog: bool = False, steps: int | None = None
) -> SpikeData | Stream:
    """Any of these as `SpikeData`, checked; an iterable of batches as a `Stream`, of which nothing is read yet.

    input_shape, analog, steps: as `load_spikes`. A tuple or list of an array and one class number per sample is
    (spikes, labels); an iterable yields arrays, tensors, `SpikeData` or (spikes, labels), samples first, as a torch
    DataLoader does. Raises `Refused` for anything else.
    """
    if isinstance(data, (str, os.PathLike)):
        return load_spikes(os.fspath(data), input_shape, analog=analog, steps=steps)
    name = f"the {type(data).__name__}" if not isinstance(data, SpikeData) else data.name
    found = _in_memory(data, input_shape, analog, name)
    if found is not None:
        return found.repeated(steps)
    if isinstance(data, (Mapping, bytes)) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise refuse(f"the data is {_kind(data)}", fix=EXPECTED)
    return Stream(data, input_shape, analog, name, steps)  # type: ignore[arg-type]


def held(
    data: object, input_shape: tuple[int, ...] | None = None, *, analog: bool = False, steps: int | None = None
) -> SpikeData:
    """As `spikes_of`, a stream read whole."""
    found = spikes_of(data, input_shape, analog=analog, steps=steps)
    return found.whole() if isinstance(found, Stream) else found


def joined(batches: Iterable[SpikeData], name: str) -> SpikeData:
    """Batches one after the other."""
    listed = list(batches)
    if len(listed) == 1:
        return listed[0]
    labels = [batch.labels for batch in listed if batch.labels is not None]
    return SpikeData(np.concatenate([batch.spikes for batch in listed]), np.concatenate(labels) if labels else None,
                     name)


def _in_memory(data: object, input_shape: tuple[int, ...] | None, analog: bool, name: str) -> SpikeData | None:
    """Arrays as checked data; None where `data` is none of the forms that one batch has."""
    if isinstance(data, SpikeData):
        return checked(np.asarray(data.spikes), data.labels, input_shape, name, analog)
    labels: np.ndarray | None = None
    spikes = _array(data)
    if spikes is None and isinstance(data, (tuple, list)) and len(data) == 2:
        spikes, labels = _array(data[0]), _labels(data[1])
        if spikes is None or spikes.ndim < 2:
            return None
        if labels is None and data[1] is not None:
            if isinstance(data, list):
                return None  # batches, perhaps
            raise refuse(f"its labels are {_kind(data[1])}", file=name, fix="Give one class number per sample")
        if labels is not None and labels.ndim == 0:
            raise refuse("it is one sample with its label, not a batch", file=name,
                         fix="Put the data set into torch.utils.data.DataLoader(dataset, batch_size=64)")
        if labels is not None and labels.ndim > 1 and labels.ndim == spikes.ndim and isinstance(data, list):
            return None  # a list of two batches without labels
    return None if spikes is None else checked(spikes, labels, input_shape, name, analog)


def _labels(values: object) -> np.ndarray | None:
    if isinstance(values, (list, int)):
        try:
            found = np.asarray(values)
        except ValueError:
            return None
        return found if found.dtype.kind in "biuf" else None
    return _array(values)


def _array(values: object) -> np.ndarray | None:
    """An array or tensor as a NumPy array; None for what is neither."""
    if hasattr(values, "detach") and hasattr(values, "numpy"):  # torch: on any device, with gradients, sparse, bfloat16
        tensor = values.detach().cpu()
        if getattr(tensor, "is_sparse", False):
            tensor = tensor.to_dense()
        return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())
    if not isinstance(values, np.ndarray) and not hasattr(values, "__array__"):
        return None
    try:
        found = np.asarray(values)
    except Exception:  # an object that only looks like an array: whatever its conversion raises, it is none
        return None
    return found if isinstance(values, np.ndarray) or found.dtype != object else None


def _kind(value: object) -> str:
    kind = type(value)
    return f"of type {kind.__module__}.{kind.__qualname__}".replace(" builtins.", " ")


