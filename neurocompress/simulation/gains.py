"""One population at several gains of what it receives, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..network.discrete import Step, discretize
from ..network.graph import Network
from ..network.nodes import Array, Neuron
from ..network.resets import resets_late
from .arriving import arriving, resting
from .neurons import Membrane


class WithGains:
    """Copies of a population that does not hear itself, one for each gain, on the same input.

    Thresholds, resets and leak potentials divided by a gain are what multiplying the input by it is.
    """

    def __init__(self, network: Network, population: str, gains: Sequence[float], device: str | torch.device):
        node, sources = network.nodes[population], network.inputs_of(population)
        assert isinstance(node, Neuron)
        self.network, self.population = network, population
        self.conventions = replace(network.conventions, reset_delay=resets_late(network, population))
        steps = [discretize(_stronger(node, gain), self.conventions) for gain in gains]
        shape = network.shapes[population]
        stacked: dict[str, Any] = {
            f.name: _stacked([getattr(step, f.name) for step in steps], shape) for f in fields(Step)}
        self.step = Step(**stacked)
        self.rest = resting(network, sources, device=device)
        constant = sum((self.rest[a] for a in sources), torch.zeros(shape, device=device))
        self.constant = constant.expand(len(gains), *shape)

    def run(self, signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Spikes of each neuron over all samples and steps, by the population's name, float64 (gains, *shape).

        signals: of the population's inputs, (timesteps, batch, *shape).
        """
        with torch.inference_mode():
            x = arriving(self.network, self.population, signals, self.rest)
            membrane = Membrane(self.step, self.conventions, x.shape[1], self.constant)
            out = torch.zeros_like(membrane.v)
            total = torch.zeros(out.shape[1:], dtype=torch.float64, device=x.device)
            for t, now in enumerate(x.unbind()):
                membrane.step(now[:, None].expand_as(out), out)
                if t < len(x) - self.conventions.output_delay:  # later spikes leave after the last step
                    total += out.sum(0, dtype=torch.float64)
            return {self.population: total}


def _stronger(node: Neuron, gain: float) -> Neuron:
    levels = {name: value / gain for name in ("v_threshold", "v_reset", "v_leak")
              if (value := getattr(node, name)) is not None}
    return replace(node, **levels)


def _stacked(values: list[Array | None], shape: tuple[int, ...]) -> Array | None:
    """One number (or one of each neuron) for each gain, (gains, *shape) or broadcast to it."""
    if values[0] is None:
        return None
    full = [np.asarray(value) for value in values if value is not None]
    same = (1,) * len(shape) if full[0].size == 1 else shape
    return np.stack([np.broadcast_to(value.reshape(same) if value.size == 1 else value, same) for value in full])
