"""The float simulator: a network over a batch of samples, exactly as its conventions say.

Layers without memory run once over all time steps; neurons scan in place; nodes that form a loop run step
by step together. It is the reference for calibration and for accuracy, and what fine-tuning differentiates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from ..errors import Problem, Refused
from ..network.discrete import delay_steps, discretize
from ..network.graph import Network, strongly_connected
from ..network.nodes import Delay, Neuron
from ..network.resets import resets_late
from .arriving import arriving, before_start, resting
from .kept import Samples
from .learning import Learning
from .neurons import Membrane
from .stateless import delayed, delayed_step, operation
from .stored import as_stored
from .timing import lag_of, silent_steps, turns

#: Largest signal of one layer over one batch, in bytes; it sets how many samples run together.
BLOCK_BYTES = 32 * 2**20

Signals = dict[str, Tensor]
Steps = Tensor | list[Tensor]


@dataclass(frozen=True)
class Peak:
    """Largest |v| before reset and largest |gain * current| of a population, over all samples and steps."""

    v: float
    u: float


def simulate(
    network: Network,
    spikes: np.ndarray,
    record: Iterable[str] = (),
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    progress: Callable[[int], None] | None = None,
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Outputs of the recorded nodes, and "output", over all samples.

    spikes: (samples, timesteps, *input shape). Returns arrays (samples, timesteps, *node shape), float32 or
    the given dtype; a neuron's output is its number of spikes, that of one that never spikes its potential.
    progress is called with the number of samples done after each batch. given: what some nodes send, (samples,
    timesteps, *node shape); they are not computed.
    Raises `Refused` for unknown nodes or a wrong input shape.
    """
    names = tuple(name for name in dict.fromkeys(record) if name != "output")
    check_record(network, names)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "output")}
    for signals in batches(network, spikes, (*names, network.output), dtype=dtype, device=device, given=given):
        for name in names:
            parts[name].append(signals[name].transpose(0, 1).cpu().numpy())
        parts["output"].append(signals[network.output].transpose(0, 1).cpu().numpy())
        if progress:
            progress(sum(len(part) for part in parts["output"]))
    return {name: np.concatenate(found) for name, found in parts.items()}


def check_record(network: Network, names: Iterable[str]) -> None:
    """Raises `Refused` for every name that is no node of the network."""
    unknown = [name for name in names if name not in network.nodes]
    if unknown:
        raise Refused(
            Problem("no such node to record", f"node '{name}'", f"Nodes are: {', '.join(network.order)}")
            for name in unknown
        )


def batches(
    network: Network,
    spikes: Samples,
    keep: Iterable[str],
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    peaks: dict[str, Peak] | None = None,
    given: Mapping[str, Samples] | None = None,
    then: Callable[[Signals], Signals] | None = None,
) -> Iterator[Signals]:
    """Runs the network batch by batch; yields the kept nodes' signals, (timesteps, batch, *node shape).

    Only what is kept is run, and what it depends on up to the `given` nodes (as in `simulate`). peaks is filled with
    the largest potentials of every population that runs. then: what comes of a batch's signals, by the thread that runs
    the batch.
    """
    network = as_stored(network)
    shape = network.shapes[network.input]
    if len(spikes.shape) < 2 or spikes.shape[2:] != shape:
        raise Refused(Problem(
            f"the data has shape {spikes.shape}", f"input '{network.input}'",
            f"Give spikes of shape (samples, timesteps, {', '.join(map(str, shape))})",
        ))
    largest = max(int(np.prod(s, dtype=int)) for s in network.shapes.values())
    size = max(1, BLOCK_BYTES // (largest * max(1, spikes.shape[1]) * dtype.itemsize))
    keep = tuple(keep)
    needed = network.needed_for(keep, given or ())
    known = {name: signal for name, signal in (given or {}).items() if name in needed}
    runner = Runner(network, keep, dtype, torch.device(device), peaks, given=known)

    def part(signal: Samples, start: int) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(signal[start : start + size].swapaxes(0, 1)))
        return x.to(device=device, dtype=dtype)

    def run(start: int) -> Signals:
        found = runner.run(part(spikes, start), {name: part(signal, start) for name, signal in known.items()})
        return found if then is None else then(found)

    yield from in_turn(run, range(0, spikes.shape[0], size))


def in_turn(run: Callable[[int], Signals], starts: Iterable[int]) -> Iterator[Signals]:
    """run(start) for every start, results in order. Each runs on one thread of its own: the tensors of one
    time step are too small to share out, and the same split on every run gives the same bits."""
    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        waiting: deque[Future[Signals]] = deque()
        for start in starts:
            waiting.append(pool.submit(run, start))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Runner:
    """A network made ready: weights as tensors, constant inputs, delays of its edges.

    keep: nodes whose signals are wanted; only these run, and what they depend on. peaks: filled with the largest
    potentials of every population that runs. learning: run under autograd, with these weights and this gradient of
    spikes. given: nodes whose signals `run` is given.
    """

    def __init__(self, network: Network, keep: tuple[str, ...], dtype: torch.dtype, device: torch.device,
                 peaks: dict[str, Peak] | None = None, learning: Learning | None = None, given: Iterable[str] = ()):
        self.network, self.keep, self.peaks, self.learning = network, frozenset(keep), peaks, learning
        known = frozenset(given)
        needed = network.needed_for(keep, known)
        near = network.needed_for(needed, (network.input, *network.populations))  # what gives them their biases
        self.groups = [part for group in network.groups if needed.intersection(group)
                       for part in self._left(group, needed - known)]
        self.uses = {name: sum(n in needed for n in network.outputs_of(name)) for name in network.nodes}
        self.lock = Lock()
        self.apply = {name: operation(name, node, dtype, device, learning) for name, node in network.nodes.items()
                      if name in near}
        with torch.inference_mode(learning is None):
            self.rest = resting(network, near, self.apply, dtype=dtype, device=device)

    def _left(self, group: tuple[str, ...], run: frozenset[str]) -> Iterable[tuple[str, ...]]:
        """A group without the nodes that are given or not needed: a loop that these open is one no more."""
        if run.issuperset(group):
            return (group,)
        rest = tuple(name for name in group if name in run)
        return strongly_connected(rest, lambda name: [n for n in self.network.outputs_of(name) if n in rest])

    def run(self, x: Tensor, given: Signals | None = None) -> Signals:
        """x: (timesteps, batch, *input shape). Returns the kept signals in the same layout."""
        with torch.inference_mode(self.learning is None):
            return self._run(x, given or {})

    def _run(self, x: Tensor, given: Signals) -> Signals:
        signals: Signals = {self.network.input: x, **given}
        uses = dict(self.uses)
        for group in self.groups:
            if self.network.is_loop(group):
                self._run_loop(group, signals)
            elif group[0] != self.network.input:
                self._run_alone(group[0], signals)
            for name in group:
                for source in self.network.inputs_of(name):
                    uses[source] -= 1
                    if uses[source] == 0 and source not in self.keep:
                        del signals[source]
        return {name: signals[name] for name in self.keep}

    def _membrane(self, name: str, node: Neuron, batch: int) -> Membrane:
        constant = sum((self.rest[a] for a in self.network.inputs_of(name)), torch.zeros_like(self.rest[name]))
        surrogate = None if self.learning is None else self.learning.surrogate
        conventions = replace(self.network.conventions, reset_delay=resets_late(self.network, name))
        return Membrane(discretize(node, conventions), conventions, batch, constant, self.peaks is not None, surrogate)

    def _room(self, steps: int, shape: tuple[int, ...], like: Tensor) -> Steps:
        """Zeros (steps, *shape) to write into step by step; separate tensors under autograd, which keeps what was
        read and so forbids to write beside it."""
        if self.learning is None:
            return torch.zeros((steps, *shape), dtype=like.dtype, device=like.device)
        return [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(steps)]

    def _note_peak(self, name: str, membrane: Membrane) -> None:
        if self.peaks is not None:
            with self.lock:  # batches run side by side
                before = self.peaks.get(name, Peak(0.0, 0.0))
                self.peaks[name] = Peak(max(before.v, float(membrane.peak_v)), max(before.u, float(membrane.peak_u)))

    def _run_alone(self, name: str, signals: Signals) -> None:
        node, x = self.network.nodes[name], arriving(self.network, name, signals, self.rest)
        steps, batch = x.shape[:2]
        if isinstance(node, Neuron):
            late = self.network.conventions.output_delay
            out = self._room(steps + late, x.shape[1:], x)
            membrane = self._membrane(name, node, batch)
            for t, now in enumerate(x.unbind()):  # x[t] fills a whole signal with zeros in each step backward
                membrane.step(now, out[t + late])
            self._note_peak(name, membrane)
            signals[name] = joined(out, steps)
        elif isinstance(node, Delay):
            signals[name] = delayed(x, delay_steps(node, self.network.conventions))
        else:
            y = self.apply[name](x.reshape(steps * batch, *x.shape[2:]))
            signals[name] = y.reshape(steps, batch, *y.shape[1:])

    def _run_loop(self, group: tuple[str, ...], signals: Signals) -> None:
        """Step by step; feedback edges deliver what was sent the step before."""
        example = next(iter(signals.values()))
        steps, batch = example.shape[:2]
        late = self.network.conventions.output_delay
        nodes, shapes = self.network.nodes, self.network.shapes
        membranes: dict[str, Membrane] = {}
        sent: dict[str, Steps] = {}
        for name in group:
            node = nodes[name]
            extra = late if isinstance(node, Neuron) else 0
            sent[name] = self._room(steps + extra, (batch, *shapes[name]), example)
            if isinstance(node, Neuron):
                membranes[name] = self._membrane(name, node, batch)
        edges = {
            name: [(a, lag := lag_of(self.network, a, name), before_start(self.network, a, name, self.rest),
                    max(lag, silent_steps(self.network, a, name))) for a in self.network.inputs_of(name)]
            for name in group
        }
        delays = {n: delay_steps(node, self.network.conventions) for n in group if isinstance(node := nodes[n], Delay)}
        history = {n: self._room(steps, (batch, *shapes[n]), example) for n in delays}
        heard = {a: signals[a].unbind() for arriving in edges.values() for a, *_ in arriving if a not in sent}
        order = turns(self.network, group)
        for t in range(steps):
            for name in order:
                x: Tensor | None = None
                for source, lag, before, first in edges[name]:
                    known = sent[source] if source in sent else heard[source]
                    part = known[t - lag] if t >= first else before.expand(batch, *before.shape)
                    x = part if x is None else x + part
                assert x is not None
                if name in membranes:
                    membranes[name].step(x, sent[name][t + late])
                elif name in delays:
                    history[name][t] = x
                    sent[name][t] = delayed_step(history[name], t, delays[name])
                else:
                    sent[name][t] = self.apply[name](x)
        for name in group:
            signals[name] = joined(sent[name], steps)
        for name, membrane in membranes.items():
            self._note_peak(name, membrane)


def joined(sent: Steps, steps: int) -> Tensor:
    return torch.stack(sent[:steps]) if isinstance(sent, list) else sent[:steps]
