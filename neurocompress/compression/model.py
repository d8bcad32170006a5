"""What compression asks of a network, whatever it is made of: stages in order, and what their weights are given.

A stage is one population with the weights into it. The walk goes through the stages once, with two streams of signals
beside it: those of the network as it was, and those behind the layers that are compressed already (the two inputs of
asymmetric calibration). A stream holds what later stages still need and nothing else, so that the whole walk runs
every population a fixed number of times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..network.discrete import Step
from ..network.nodes import Array
from ..simulation.float import Peak
from .compressed_layer import CompressedLayer
from .module import Module

#: Bytes for Hessians that are used again, for the rows of the OBS ordering, and for the signals of each stream, where
#: no budget is stated.
MEMORY = 2**31


@dataclass(frozen=True, eq=False)
class Resets:
    """How a population that can be refined neuron by neuron resets: leak (rows,) in thresholds, added to v in each
    step; reset "zero" or "subtract"; two_phase; late: in the step after the spike, behind the decay."""

    leak: Array
    reset: str
    two_phase: bool
    late: bool


@dataclass(frozen=True, eq=False)
class Stage:
    """One population and the weights into it.

    modules: those of them that are compressed; none where all stay as they are. step: the population's filter, None
    where it has no memory. spiking: it sends spikes. alone: the modules are all that drives it, and it does not hear
    itself, so that gains of its rows can be found on the stage alone. resets: None where its neurons can not be refined
    one by one.
    """

    population: str
    modules: tuple[Module, ...]
    step: Step | None
    spiking: bool
    alone: bool
    resets: Resets | None

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(name for module in self.modules for name in module.layers)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return tuple(module.group for module in self.modules)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of one stage. first: place of the first of them among those asked for. inputs: by layer, what it is
    given, each as late as it arrives at the population, (timesteps, samples, *shape). spikes: what the population sent,
    (timesteps, samples, *shape), or None where it was not run."""

    first: int
    inputs: Mapping[str, Tensor]
    spikes: Tensor | None


class Stream(Protocol):
    """The signals of one network over the calibration data, stage after stage; it does not go back."""

    @property
    def changed(self) -> bool:
        """Whether any layer is another than the model's."""

    def inputs(self, stage: Stage, samples: np.ndarray | None = None) -> Iterator[Batch]:
        """What the stage's layers are given. samples: indices of some of them only, int64 in order."""

    def run(self, stage: Stage) -> Iterator[Batch]:
        """Likewise, of all samples, with what the population sent."""

    def peak(self, stage: Stage) -> Peak | None:
        """The largest potentials of a population that was run; None where it has no memory."""

    def counts(self, stage: Stage, layers: Mapping[str, CompressedLayer], gains: Sequence[float]) -> Array:
        """Spikes of each row's neurons over all samples, (gains, rows) float64, with these layers into the population
        and everything that they send times each gain."""

    def put(self, layers: Mapping[str, CompressedLayer]) -> None:
        """From now on the network has these layers."""


class Model(Protocol):
    """A network and its calibration data."""

    @property
    def samples(self) -> int: ...

    @property
    def timesteps(self) -> int: ...

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers of weights that can be compressed."""

    def stages(self, kept: frozenset[str] = frozenset()) -> tuple[Stage, ...]:
        """All, in order. kept: layers that stay as they are."""

    def stream(self) -> Stream: ...

    def result(self, layers: Mapping[str, CompressedLayer]) -> Any:
        """The same kind of network with these layers."""

    def key(self, *more: str) -> str:
        """A digest of the network, its data and what else a result depends on."""
