"""Neurons that keep real numbers on a chip: the float simulator's own step rule, on stored integer weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..chip.on_chip.real_network import RealPopulation
from ..simulation.neurons import Membrane


class RealNeurons:
    """State of a population over a batch, float32; `step(a, out)` is one time step."""

    dtype = torch.float32  # of what it receives and sends
    wrapped = clipped = 0

    def __init__(self, p: RealPopulation, batch: int, device: torch.device):
        def full(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.broadcast_to(values, p.shape).copy(), dtype=self.dtype, device=device)

        self.spiking, self.unit = p.spiking, full(p.unit)
        self.membrane = Membrane(p.step, p.conventions, batch, torch.zeros(p.shape, dtype=self.dtype, device=device))
        self.membrane.v.copy_(full(p.v_init))

    @property
    def u(self) -> Tensor:
        return self.membrane.current if self.membrane.alpha is not None else torch.zeros_like(self.membrane.v)

    @property
    def v(self) -> Tensor:
        return self.membrane.v

    def step(self, a: Tensor, out: Tensor) -> None:
        """a: summed deliveries (batch, *shape) float32. Writes spikes (or v of a readout, in the model's units)."""
        self.membrane.step(a, out)
        if not self.spiking:
            out.mul_(self.unit)
