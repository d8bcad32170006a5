"""Neurons in floating point: pure step rules over torch tensors, in place.

Nothing that a backward pass needs is overwritten, so the same rules run under autograd.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..network.conventions import Conventions
from ..network.discrete import LEAST_LOSS, Step


class Membrane:
    """State of one population over a batch, and the rule that takes it one step further.

    Shapes are (batch, *neuron shape). `step(x, out)` takes the summed input of this step and writes the
    number of spikes (or, for a neuron that never spikes, its potential v) into `out`.
    constant: input that every neuron receives in each step (its biases), shaped like the neuron; with
    conventions.bias "membrane" it is taken out of the synapse and its steady state added to v.
    conventions.reset_delay: of this population, as `network.resets` finds it.
    watch: keep the largest |v| before reset in `peak_v` and the largest |gain * current| in `peak_u`.
    surrogate: what gives spikes a gradient, see `learning.Learning`; None in plain simulation.
    """

    def __init__(self, coefficients: Step, conventions: Conventions, batch: int, constant: Tensor, watch: bool = False,
                 surrogate: Callable[[Tensor, Tensor], Tensor] | None = None):
        self.conventions = conventions
        self.two_phase, self.late = conventions.two_phase, conventions.reset_delay
        self.last: Tensor | None = None  # spikes of the step before, where they reset in this one
        dtype, device = constant.dtype, constant.device
        shape = (batch, *constant.shape)

        def tensor(values: object) -> Tensor:
            found = torch.as_tensor(values, dtype=dtype, device=device)
            uniform = found.numel() > 0 and bool((found == found.flatten()[0]).all())
            return found.flatten()[0] if uniform else found  # one number is much faster than an array of it

        self.watch, self.surrogate = watch, surrogate
        self.peak_u = self.peak_v = torch.zeros((), dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device) + tensor(coefficients.v_start)
        self.beta, self.gain = tensor(coefficients.beta), tensor(coefficients.gain)
        self.leaky = not bool((self.beta == 1).all())
        self.unit_gain = bool((self.gain == 1).all())
        self.v_reset = tensor(coefficients.v_reset)
        self.zero_reset = bool((self.v_reset == 0).all())
        self.threshold = None if coefficients.v_threshold is None else tensor(coefficients.v_threshold)
        leak = tensor(coefficients.leak)
        self.alpha: Tensor | None = None
        if coefficients.alpha is not None and coefficients.gain_syn is not None:
            self.alpha, self.gain_syn = tensor(coefficients.alpha), tensor(coefficients.gain_syn)
            self.current = torch.zeros(shape, dtype=dtype, device=device)
        self.withheld: Tensor | None = None  # input that does not pass the synapse
        # a bias that is learned matters even while it is zero
        if conventions.bias == "membrane" and self.alpha is not None and matters(constant):
            self.withheld = constant
            leak = leak + self.gain * self.gain_syn * constant / (1 - self.alpha).clamp(min=LEAST_LOSS)
        self.leak = leak if matters(leak) else None

    def step(self, x: Tensor, out: Tensor) -> None:
        if self.withheld is not None:
            x = x - self.withheld
        v = self.v
        above = None  # still above threshold after the last reset
        if self.two_phase and self.threshold is not None:
            above = v > self.threshold
        if self.leaky:
            v.mul_(self.beta)
        if self.alpha is not None:
            if self.conventions.input_decays:
                self.current.add_(x * self.gain_syn).mul_(self.alpha)
            else:
                self.current.mul_(self.alpha).add_(x * self.gain_syn)
            x = self.current
        elif self.conventions.input_decays and self.leaky:
            x = x * self.beta
        v.add_(x if self.unit_gain else x * self.gain)
        if self.leak is not None:
            v.add_(self.leak)
        if self.last is not None and self.threshold is not None:
            self._reset(v, self.threshold, self.last)
            v = self.v
        if self.watch:
            self.peak_u = torch.maximum(self.peak_u, (x * self.gain).abs().max())
            self.peak_v = torch.maximum(self.peak_v, v.abs().max())
        if self.threshold is None:
            out.copy_(v)
            return
        tested = v if above is None else v - above * self.threshold
        if self.surrogate is None:
            self._fire(tested, self.threshold, out)
        else:
            spikes = torch.empty_like(out)
            self._fire(tested.detach(), self.threshold, spikes)
            out.copy_(self.surrogate(self._distance(tested, self.threshold), spikes))
        if self.late:
            self.last = out
        else:
            self._reset(v, self.threshold, out)
        if self.conventions.v_floor:
            self.v.clamp_(min=-self.threshold)

    def _fire(self, tested: Tensor, threshold: Tensor, out: Tensor) -> None:
        fire = self.conventions.fire
        if self.conventions.spikes_per_step == "many":
            torch.div(tested, threshold, out=out)
            if fire == ">":
                out.ceil_().sub_(1).clamp_(min=0)
            else:
                out.clamp_(min=0).trunc_()
        else:
            (torch.ge if fire == ">=" else torch.gt)(tested, threshold, out=out)

    def _reset(self, v: Tensor, threshold: Tensor, spikes: Tensor) -> None:
        if self.conventions.reset == "subtract":
            v.addcmul_(spikes, threshold, value=-1)
        elif self.zero_reset:  # plain arithmetic, because a masked write is far slower
            v.mul_((spikes == 0).to(v.dtype))
        else:
            self.v = torch.where(spikes > 0, self.v_reset, v)

    def _distance(self, tested: Tensor, threshold: Tensor) -> Tensor:
        """How far a potential lies above the nearest point where it sends one spike more, in thresholds."""
        if self.conventions.spikes_per_step == "many":
            levels = tested / threshold
            return levels - levels.detach().round().clamp_(min=1)
        span = (threshold - self.v_reset).abs()
        return (tested - threshold) / torch.where(span == 0, 1.0, span)


def matters(x: Tensor) -> bool:
    return x.requires_grad or bool((x != 0).any())
