"""Statistics of a stage over calibration data: Hessians of its inputs, spikes and peaks of its population."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...network.discrete import Step
from ...network.nodes import Array
from ...progress import Progress, silent
from ...simulation.float import Peak
from ..maths.hessian import Bias, Given, Hessian, filtered
from ..maths.supports import Ground
from ..model import Model, Stage, Stream
from ..module import Module
from .spike_matching import FEATURES_MAX

Group = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a small population was given and did: x (samples, timesteps, d), its layers' inputs side by side, each as
    late as it arrives; spikes (samples, timesteps, n)."""

    x: np.ndarray
    spikes: np.ndarray


@dataclass(frozen=True, eq=False)
class Calibration:
    """A stage of the network before compression.

    hessians: by group of layers, (groups, d, d) float64. biases: how a constant input goes with the inputs. energies:
    mean squared norms of the filtered and of the plain input at each time step, (2, timesteps). counts: (rows,)
    spikes of each row's neurons over all samples; None where the population sends none, or none of its layers is
    compressed. peak: the largest membrane potential and the largest synaptic contribution to it in one step, in the
    network's units, None of a population without memory. behaviour: of one small enough to be refined neuron by neuron.
    """

    hessians: dict[Group, Tensor]
    biases: dict[Group, Bias]
    energies: dict[Group, np.ndarray]
    counts: Array | None
    peak: Peak | None
    samples: int
    behaviour: Behaviour | None

    @property
    def bytes(self) -> int:
        return sum(h.numel() * 8 for h in self.hessians.values())


def calibrate(
    stage: Stage, stream: Stream, samples: int, *, membrane: bool = True, progress: Progress | None = None
) -> Calibration:
    """Statistics of one stage of a stream that runs it.

    samples: of the data. membrane: H_SMP of the filtered input (SBC); False gives the plain H of OBC and GPTQ.
    Memory: one batch of signals (see simulation.float.BLOCK_BYTES) and each group's d x d matrices.
    """
    tell, step = progress or silent, stage.step if membrane else None
    hessians = {m.group: Hessian(m.inputs, m.groups) for m in stage.modules}
    energies: dict[Group, np.ndarray] = {}
    counts: Array | None = None
    behaviours: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in stream.run(stage):
        assert batch.spikes is not None
        steps, size = batch.spikes.shape[:2]
        if stage.spiking and stage.modules:
            rows = len(stage.modules[0].weight)
            sent = batch.spikes.sum(dim=(0, 1), dtype=torch.float64).reshape(rows, -1).sum(1).cpu().numpy()
            counts = sent if counts is None else counts + sent
        if membrane and _refinable(stage, samples, steps):
            x = torch.cat([batch.inputs[name] for name in stage.modules[0].group], dim=-1)
            behaviours.append((x.transpose(0, 1).cpu().numpy(), batch.spikes.transpose(0, 1).cpu().numpy()))
        for module in stage.modules:
            through = given(module, batch.inputs, step)
            plain = given(module, batch.inputs, None)
            energy = energies.setdefault(module.group, np.zeros((2, steps)))
            for k, layers in enumerate((through, plain)):
                for layer in layers:
                    energy[k] += layer.signal.flatten(1).square().sum(1, dtype=torch.float64).cpu().numpy()
            hessians[module.group].add(through, first=batch.first, constant=constant(through, step))
        tell("calibrating", batch.first + size, samples)
    behaviour = None
    if behaviours:
        behaviour = Behaviour(np.concatenate([x for x, _ in behaviours]), np.concatenate([s for _, s in behaviours]))
    return Calibration({g: h.mean() for g, h in hessians.items()}, {g: h.bias() for g, h in hessians.items()},
                       {g: e / samples for g, e in energies.items()}, counts, stream.peak(stage), samples, behaviour)


def given(module: Module, inputs: Mapping[str, Tensor], step: Step | None) -> list[Given]:
    """What the layers of a group are given, through the population's filter where there is one."""
    return [Given(inputs[n] if step is None else filtered(inputs[n], step), module.parts[n].conv) for n in module.group]


def constant(through: list[Given], step: Step | None) -> Tensor:
    """What a constant input of 1 gives at each time step, (timesteps,)."""
    x = through[0].signal
    one = torch.ones((len(x), 1, 1), dtype=x.dtype, device=x.device)
    return (one if step is None else filtered(one, step)).flatten()


def _refinable(stage: Stage, samples: int, steps: int) -> bool:
    """Plain neurons behind Linear layers, few enough numbers."""
    return stage.resets is not None and samples * steps * (stage.modules[0].inputs + 1) <= FEATURES_MAX


class Statistics:
    """What several recipes share: calibrations of a model's stages, as long as their Hessians fit into `memory` bytes,
    and with each the grounds of pruning, by module and way to choose.

    membrane: as in `calibrate`.
    """

    def __init__(self, model: Model, membrane: bool, memory: int):
        self.model, self.membrane, self.memory = model, membrane, memory
        self._found: dict[tuple[str, tuple[Group, ...]], Calibration] = {}
        self._grounds: dict[Hashable, Ground] = {}

    def of(self, stage: Stage, stream: Stream, progress: Progress | None = None) -> Calibration:
        """Of one stage; `stream`, of the network as it was, is asked where it is not known yet."""
        key = stage.population, stage.groups
        found = self._found.get(key)
        if found is None:
            found = calibrate(stage, stream, self.model.samples, membrane=self.membrane, progress=progress)
            if sum(c.bytes for c in self._found.values()) + found.bytes <= self.memory:
                self._found[key] = found
        return found

    def ground(self, stage: Stage, how: Hashable, make: Callable[[], Ground]) -> Ground:
        """What pruning of a stage's original weights rests on; `make` is called where it is not known."""
        key = stage.population, stage.groups, how
        found = self._grounds[key] if key in self._grounds else make()
        if key[:2] in self._found:
            self._grounds[key] = found
        return found

    def each(self, stages: tuple[Stage, ...], progress: Progress | None = None) -> Iterator[tuple[Stage, Calibration]]:
        """Every stage in order, in one pass over the data."""
        stream = self.model.stream()
        for stage in stages:
            yield stage, self.of(stage, stream, progress)
