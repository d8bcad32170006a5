"""The emulator: a chip's network over many samples at once, as the chip's arithmetic says.

The rules are those of on_chip.integer_network (bit for bit) and on_chip.real_network. Every population runs on its own
clock, which starts when the first input can reach it, so signals come out aligned in time; the latency of each is in
the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from ..chip.arithmetic import Unknown
from ..chip.on_chip.integer_network import IntegerNetwork
from ..chip.on_chip.real_network import OnChip
from ..errors import Problem, Refused, refuse
from ..network.graph import strongly_connected
from ..simulation.float import in_turn
from .integer_neurons import IntegerNeurons
from .real_neurons import RealNeurons
from .synapses import deliver, delivered, lags_of

#: Largest signal of one population over one batch, in bytes.
BLOCK_BYTES = 32 * 2**20


@dataclass
class Overflow:
    """Steps in which a register met its end: u wrapped, v was clipped. Both change what a network computes."""

    u_wrapped: int = 0
    v_clipped: int = 0

    @staticmethod
    def gather(total: dict[str, Overflow], more: Mapping[str, Overflow]) -> None:
        """Adds `more` to `total`, by population."""
        for name, found in more.items():
            one = total.setdefault(name, Overflow())
            one.u_wrapped += found.u_wrapped
            one.v_clipped += found.v_clipped


@dataclass(frozen=True, eq=False)
class Emulation:
    """spikes: by population, (samples, timesteps, *shape), aligned: int32, or float32 of real-valued neurons. states: u
    and v after the step (after reset), where asked for. overflow: by population."""

    spikes: dict[str, np.ndarray]
    u: dict[str, np.ndarray]
    v: dict[str, np.ndarray]
    overflow: dict[str, Overflow]


def emulate(
    network: OnChip, spikes: np.ndarray, record: Iterable[str] = (), *, states: bool = False,
    device: str | torch.device = "cpu", progress: Callable[[int], None] | None = None,
) -> Emulation:
    """Runs the network over spikes (samples, timesteps, *input shape) of whole numbers.

    record: populations whose spikes are returned besides the output's; states adds u and v of the recorded ones.
    Raises `Refused` for unknown populations, a wrong input shape, or a chip whose arithmetic is not public.
    """
    names = tuple(dict.fromkeys([*record, network.output]))
    known = {p.name for p in network.populations}
    if isinstance(network.arithmetic, Unknown):
        raise refuse("the arithmetic of this chip is not public, so nothing emulates it",
                     fix="Run the compressed model in floating point (--engine float)")
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
    def __init__(self, network: OnChip, record: tuple[str, ...], states: bool,
                 overflow: dict[str, Overflow], device: torch.device):
        self.network, self.record, self.states, self.overflow = network, set(record), states, overflow
        self.device, self.lock = device, Lock()
        self.maps = [(s, deliver(s, device), lags_of(network.aligned_delay(s), s)) for s in network.synapses]
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
            neurons = {n: self._neurons(n, batch) for n in group}
            keep = {n: _trace(neurons[n], steps) if self.states and n in self.record else None for n in group}
            for name in group:
                signals[name] = torch.zeros(
                    (steps, *neurons[name].v.shape), dtype=neurons[name].dtype, device=self.device)
            for t in range(steps):
                for name in group:
                    a = fed[name][t]
                    for s, apply, lags in inside:
                        if s.target == name:
                            a = a + delivered(apply, lags, signals[s.source], t)
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

    def _neurons(self, name: str, batch: int) -> IntegerNeurons | RealNeurons:
        network = self.network
        if isinstance(network, IntegerNetwork):
            return IntegerNeurons(network.population(name), network.arithmetic, batch, self.device)
        return RealNeurons(network.population(name), batch, self.device)

    def _fed(self, name: str, group: tuple[str, ...], signals: dict[str, Tensor], steps: int, batch: int) -> Tensor:
        """What all connections from outside the group deliver to a population, over all time steps at once."""
        population = self.network.population(name)
        kind = torch.int32 if isinstance(self.network, IntegerNetwork) else torch.float32
        total = torch.zeros((steps, batch, *population.shape), dtype=kind, device=self.device)
        for s, apply, lags in self.maps:
            if s.target != name or s.source in group:
                continue
            x = signals[s.source]
            for lag, mask in lags:
                part = x if mask is None else x * mask.reshape(s.source_shape).to(x.dtype)
                if lag < steps:
                    y = apply(part[: steps - lag].flatten(0, 1))
                    if y.dtype == torch.int64 and kind == torch.int32:
                        total = total.to(torch.int64)
                    total[lag:] += y.reshape(steps - lag, batch, *population.shape)
        return total


def _trace(neurons: IntegerNeurons | RealNeurons, steps: int) -> tuple[Tensor, Tensor]:
    shape = (steps, *neurons.v.shape)
    kind = torch.int64 if neurons.dtype == torch.int32 else neurons.dtype
    return torch.zeros(shape, dtype=kind), torch.zeros(shape, dtype=kind)
