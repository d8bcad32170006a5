"""Neurons that compute in integers, as on_chip.integer_network says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..chip.arithmetic import Arithmetic
from ..chip.on_chip.integer_network import Population


class IntegerNeurons:
    """State of a population over a batch; `step(a, out)` is one time step of the chip's arithmetic."""

    dtype = torch.int32  # of what it receives and sends

    def __init__(self, p: Population, arithmetic: Arithmetic, batch: int, device: torch.device):
        self.p, self.arithmetic = p, arithmetic
        self.unity, self.limit = 2**arithmetic.decay_bits, arithmetic.state_max
        self.wrapped = self.clipped = 0
        self.last: Tensor | None = None  # spikes of the step before, where they reset in this one

        def full(values: np.ndarray | int) -> Tensor:
            return torch.as_tensor(np.broadcast_to(values, p.shape).copy(), dtype=torch.int32, device=device)

        def one_or_all(values: np.ndarray | int) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=torch.int32, device=device)

        self.u = full(p.u_init).repeat(batch, *(1,) * len(p.shape))
        self.v = full(p.v_init).repeat(batch, *(1,) * len(p.shape))
        self.keep_u, self.keep_v = self.unity - 1 - one_or_all(p.du), self.unity - one_or_all(p.dv)
        self.bias = one_or_all(np.asarray(p.bias_mant) << p.bias_exp)
        self.biased = bool((self.bias != 0).any())
        self.threshold = one_or_all(np.asarray(p.vth) << arithmetic.threshold_shift)
        self.reset_by = one_or_all(p.reset_by)
        self.floor = None if p.v_floor is None else one_or_all(p.v_floor)
        self.u_forgets = bool((self.keep_u == 0).all())
        self.v_stays = bool((self.keep_v == self.unity).all())

    def _decayed(self, state: Tensor, keep: Tensor) -> Tensor:
        """state * keep / 2^decay_bits toward zero. The product needs 36 bits; float64 holds it exactly."""
        return torch.div(state.to(torch.float64) * keep, self.unity, rounding_mode="trunc").to(torch.int32)

    def _held(self, u: Tensor) -> Tensor:
        """u in its register: beyond the end it is wrapped once, or clipped."""
        low, high, end = int(u.min()), int(u.max()), self.limit - 1
        if self.arithmetic.u_wraps:
            if high > self.limit or low <= -self.limit:
                over, under = u > self.limit, u <= -self.limit
                self.wrapped += int((over | under).sum())
                u = torch.where(over, u - 2 * self.limit, torch.where(under, u + 2 * self.limit, u))
        elif high > end or low < -end:
            self.clipped += int((u.abs() > end).sum())
            u = u.clamp(-end, end)
        return u

    def step(self, a: Tensor, out: Tensor) -> None:
        """a: summed deliveries (batch, *shape) int32. Writes spikes (or v of a readout) into out, int32."""
        p = self.p
        arriving = a << self.arithmetic.activation_shift
        u = self._held(arriving if self.u_forgets else self._decayed(self.u, self.keep_u) + arriving)
        self.u = u
        tested_above = self.v > self.threshold if p.two_phase else None
        v = (self.v if self.v_stays else self._decayed(self.v, self.keep_v)) + u
        if self.biased:
            v = v + self.bias
        if self.last is not None:
            v = self._reset(v, self.last)
        end = self.limit - 1
        low, high = int(v.min()), int(v.max())
        if high > end or low < -end:
            self.clipped += int((v.abs() > end).sum())
            v = v.clamp(-end, end).to(torch.int32)
        if not p.spiking:
            self.v = v if self.floor is None else torch.maximum(v, self.floor)
            v = self.v
            out.copy_(v)
            return
        tested = v if tested_above is None else v - tested_above * self.reset_by
        if p.spikes_per_step == "many":
            shifted = tested if p.fire == ">=" else tested - 1
            n = torch.div(shifted, self.threshold, rounding_mode="floor").clamp_(min=0)
        else:
            n = (tested >= self.threshold if p.fire == ">=" else tested > self.threshold).to(torch.int32)
        if not p.late_reset:
            v = self._reset(v, n)
        if self.floor is not None:
            v = torch.maximum(v, self.floor)
        self.v = v
        out.copy_(n)
        if p.late_reset:
            self.last = out

    def _reset(self, v: Tensor, n: Tensor) -> Tensor:
        return v - n * self.reset_by if self.p.reset == "subtract" else v * (n == 0)

