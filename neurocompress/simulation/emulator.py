"""The emulator: an integer network over many samples at once, bit for bit as the chip's arithmetic says.

The rules are those of chip.integer. Every population runs on its own clock, which starts when the first input
can reach it, so signals come out aligned in time; the latency of each is in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..chip.integer import Arithmetic, IntegerNetwork, Population, Synapses
from ..errors import Problem, Refused
from ..network.graph import strongly_connected
from .float import in_turn

#: Largest signal of one population over one batch, in bytes.
BLOCK_BYTES = 32 * 2**20
#: Integers up to here are exact in float32, whose matrix products are the fastest there are.
EXACT_FLOAT32 = 2**24
#: Deliveries below this may be summed over many connections and shifted without leaving int32.
INT32_INPUT = 2**20
#: Entries up to which a sparse connection is multiplied as a dense matrix, which is faster.
DENSE_MAX = 2**24


@dataclass
class Overflow:
    """Steps in which a register met its end: u wrapped, v was clipped. Both change what a network computes."""

    u_wrapped: int = 0
    v_clipped: int = 0


@dataclass(frozen=True, eq=False)
class Emulation:
    """spikes: by population, (samples, timesteps, *shape) int32, aligned. states: u and v after the step
    (after reset), where asked for. overflow: by population."""

    spikes: dict[str, np.ndarray]
    u: dict[str, np.ndarray]
    v: dict[str, np.ndarray]
    overflow: dict[str, Overflow]


def emulate(
    network: IntegerNetwork, spikes: np.ndarray, record: Iterable[str] = (), *, states: bool = False,
    device: str | torch.device = "cpu", progress: Callable[[int], None] | None = None,
) -> Emulation:
    """Runs the network over spikes (samples, timesteps, *input shape) of whole numbers.

    record: populations whose spikes are returned besides the output's; states adds u and v of the recorded ones.
    Raises `Refused` for unknown populations or a wrong input shape.
    """
    names = tuple(dict.fromkeys([*record, network.output]))
    known = {p.name for p in network.populations}
    problems = [
        Problem("no such population to record", f"node '{n}'", f"Populations are: {', '.join(sorted(known))}")
        for n in names if n not in known
    ]
    if spikes.ndim < 2 or spikes.shape[2:] != network.input_shape:
        problems.append(Problem(
            f"the data has shape {spikes.shape}", f"input '{network.input}'",
            f"Give spikes of shape (samples, timesteps, {', '.join(map(str, network.input_shape))})"))
    elif spikes.dtype.kind == "f" and np.any(spikes != np.rint(spikes)):
        problems.append(Problem("the data holds fractions, and a chip receives spikes", f"input '{network.input}'",
                                "Encode the values as spikes: whole numbers per step"))
    if problems:
        raise Refused(problems)
    largest = max(int(np.prod(s)) for s in [network.input_shape, *(p.shape for p in network.populations)])
    size = max(1, BLOCK_BYTES // (largest * max(1, spikes.shape[1]) * 4))
    overflow = {p.name: Overflow() for p in network.populations}
    runner = _Runner(network, names, states, overflow, torch.device(device))

    def run(start: int) -> dict[str, Tensor]:
        return runner.run(torch.from_numpy(np.ascontiguousarray(spikes[start : start + size].swapaxes(0, 1))))

    parts: dict[str, list[np.ndarray]] = {}
    done = 0
    for found in in_turn(run, range(0, len(spikes), size)):
        for key, signal in found.items():
            parts.setdefault(key, []).append(signal.transpose(0, 1).cpu().numpy())
        done += next(iter(found.values())).shape[1]
        if progress:
            progress(done)
    whole = {key: np.concatenate(found) for key, found in parts.items()}

    def of(prefix: str) -> dict[str, np.ndarray]:
        return {key[2:]: value for key, value in whole.items() if key.startswith(prefix)}

    return Emulation(of("s:"), of("u:"), of("v:"), overflow)


class _Runner:
    def __init__(self, network: IntegerNetwork, record: tuple[str, ...], states: bool,
                 overflow: dict[str, Overflow], device: torch.device):
        self.network, self.record, self.states, self.overflow = network, set(record), states, overflow
        self.device, self.lock = device, Lock()
        self.maps = [(s, deliver(s, device), _lags(network.aligned_delay(s), s)) for s in network.synapses]
        targets: dict[str, list[str]] = {}
        for s in network.synapses:
            targets.setdefault(s.source, []).append(s.target)
        self.groups = strongly_connected([p.name for p in network.populations], lambda n: targets.get(n, []))
        self.loops = {s.source for s in network.synapses if s.source == s.target}

    @torch.inference_mode()
    def run(self, x: Tensor) -> dict[str, Tensor]:
        """x: (timesteps, batch, *input shape). Returns recorded signals under s:, u: and v: names."""
        signals = {self.network.input: x.to(self.device)}
        steps, batch = x.shape[:2]
        out: dict[str, Tensor] = {}
        for group in self.groups:
            inside = [m for m in self.maps if m[0].source in group and m[0].target in group]
            fed = {name: self._fed(name, group, signals, steps, batch) for name in group}
            neurons = {
                n: Neurons(self.network.population(n), self.network.arithmetic, batch, self.device) for n in group}
            keep = {n: _trace(neurons[n], steps) if self.states and n in self.record else None for n in group}
            for name in group:
                signals[name] = torch.zeros((steps, *neurons[name].v.shape), dtype=torch.int32, device=self.device)
            for t in range(steps):
                for name in group:
                    a = fed[name][t]
                    for s, apply, lags in inside:
                        if s.target == name:
                            a = a + _delivered(apply, lags, signals[s.source], t)
                    neurons[name].step(a, signals[name][t])
                    trace = keep[name]
                    if trace is not None:
                        trace[0][t], trace[1][t] = neurons[name].u, neurons[name].v
            for name in group:
                with self.lock:  # batches run side by side
                    self.overflow[name].u_wrapped += neurons[name].wrapped
                    self.overflow[name].v_clipped += neurons[name].clipped
                trace = keep[name]
                if trace is not None:
                    out[f"u:{name}"], out[f"v:{name}"] = trace
                if name in self.record:
                    out[f"s:{name}"] = signals[name]
        return out

    def _fed(self, name: str, group: tuple[str, ...], signals: dict[str, Tensor], steps: int, batch: int) -> Tensor:
        """What all connections from outside the group deliver to a population, over all time steps at once."""
        population = self.network.population(name)
        total = torch.zeros((steps, batch, *population.shape), dtype=torch.int32, device=self.device)
        for s, apply, lags in self.maps:
            if s.target != name or s.source in group:
                continue
            x = signals[s.source]
            for lag, mask in lags:
                part = x if mask is None else x * mask.reshape(s.source_shape).to(x.dtype)
                if lag < steps:
                    y = apply(part[: steps - lag].flatten(0, 1))
                    if y.dtype != total.dtype:
                        total = total.to(torch.int64)
                    total[lag:] += y.reshape(steps - lag, batch, *population.shape)
        return total


Lags = list[tuple[int, Tensor | None]]


def _lags(delay: int | np.ndarray, synapses: Synapses) -> Lags:
    """Aligned delays of a connection: (steps, mask of the sources that take them), None for all."""
    values = np.unique(delay)
    if len(values) == 1:
        return [(int(values[0]), None)]
    per_source = np.broadcast_to(delay, (int(np.prod(synapses.source_shape)),))
    return [(int(k), torch.from_numpy(np.ascontiguousarray(per_source == k))) for k in values]


def _delivered(apply: Callable[[Tensor], Tensor], lags: Lags, source: Tensor, t: int) -> Tensor | int:
    total: Tensor | int = 0
    for lag, mask in lags:
        if t >= lag:
            x = source[t - lag]
            total = total + apply(x if mask is None else x * mask.reshape(source.shape[2:]).to(x.dtype))
    return total


def _trace(neurons: Neurons, steps: int) -> tuple[Tensor, Tensor]:
    shape = (steps, *neurons.v.shape)
    return torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)


def deliver(s: Synapses, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A connection as a function of (n, *source shape) spikes: (n, *target shape) int32, exponent applied.

    Without message bits a spike is a spike, whatever number stands for it. Sums of integers are exact in
    float32 while they stay below 2^24; where they may not, float64 is used.
    """
    linear, bound = _map(s, device)

    def apply(x: Tensor) -> Tensor:
        if s.message_bits == 0:
            x, peak = x != 0, 1
        else:
            peak = int(x.abs().max()) if x.numel() else 0
        exact = torch.float32 if bound * peak < EXACT_FLOAT32 else torch.float64
        y = linear(x.to(exact))
        largest = float(y.abs().max()) * 2.0 ** max(s.exponent, 0) if y.numel() else 0.0
        whole = y.round().to(torch.int32 if largest < INT32_INPUT else torch.int64)
        return whole << s.exponent if s.exponent > 0 else whole >> -s.exponent

    return apply


def _map(s: Synapses, device: torch.device) -> tuple[Callable[[Tensor], Tensor], float]:
    """The weights as a function of float spikes, and the largest sum of |weights| into one neuron."""
    if s.kernel is not None and all(a == b for a, b in s.kernel.padding):
        k, kernel = s.kernel, np.asarray(s.weight)
        weights = {d: torch.as_tensor(kernel, dtype=d, device=device) for d in (torch.float32, torch.float64)}
        conv, padding = (F.conv1d if kernel.ndim == 3 else F.conv2d), tuple(a for a, _ in k.padding)

        def convolve(x: Tensor) -> Tensor:
            y: Tensor = conv(x, weights[x.dtype], None, k.stride, padding, k.dilation, k.groups)
            return y

        return convolve, float(np.abs(kernel).reshape(len(kernel), -1).sum(1).max())
    matrix = s.matrix()
    bound = float(abs(matrix).sum(axis=1).max()) if matrix.nnz else 0.0
    if matrix.shape[0] * matrix.shape[1] <= DENSE_MAX:
        whole = matrix.toarray().T
        dense = {d: torch.as_tensor(whole, dtype=d, device=device) for d in (torch.float32, torch.float64)}
        return lambda x: (x.reshape(len(x), -1) @ dense[x.dtype]).reshape(len(x), *s.target_shape), bound
    csr = torch.sparse_csr_tensor(
        torch.as_tensor(matrix.indptr), torch.as_tensor(matrix.indices),
        torch.as_tensor(matrix.data, dtype=torch.float64), matrix.shape, device=device)
    return lambda x: (csr @ x.reshape(len(x), -1).to(torch.float64).T).T.reshape(len(x), *s.target_shape), bound


class Neurons:
    """State of a population over a batch; `step(a, out)` is one time step of the chip's arithmetic."""

    def __init__(self, p: Population, arithmetic: Arithmetic, batch: int, device: torch.device):
        self.p, self.arithmetic = p, arithmetic
        self.unity, self.limit = 2**arithmetic.decay_bits, arithmetic.state_max
        self.wrapped = self.clipped = 0

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

    def step(self, a: Tensor, out: Tensor) -> None:
        """a: summed deliveries (batch, *shape) int32. Writes spikes (or v of a readout) into out, int32."""
        p = self.p
        arriving = a << self.arithmetic.activation_shift
        u = arriving if self.u_forgets else self._decayed(self.u, self.keep_u) + arriving
        low, high = int(u.min()), int(u.max())
        if high > self.limit or low <= -self.limit:
            self.wrapped += int(((u > self.limit) | (u <= -self.limit)).sum())
            u = torch.where(u > self.limit, u - 2 * self.limit, torch.where(u <= -self.limit, u + 2 * self.limit, u))
        self.u = u
        tested_above = self.v > self.threshold if p.two_phase else None
        v = (self.v if self.v_stays else self._decayed(self.v, self.keep_v)) + u
        if self.biased:
            v = v + self.bias
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
        v = v - n * self.reset_by if p.reset == "subtract" else v * (n == 0)
        if self.floor is not None:
            v = torch.maximum(v, self.floor)
        self.v = v
        out.copy_(n)

