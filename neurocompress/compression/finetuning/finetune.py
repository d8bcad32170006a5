"""Fine-tuning after compression: surrogate-gradient training that keeps every zero and every grid point.

The forward pass is the float simulator's own, under autograd. Weights that have a grid are rounded onto it in every
forward pass, and the gradient passes through the rounding (straight-through estimator, Bengio 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...data.calibration import CalibrationSet
from ...errors import Problem, Refused
from ...network.graph import Network
from ...network.grid import Grid
from ...network.nodes import WEIGHTED, Array, Conv, Linear, Node
from ...simulation.float import BLOCK_BYTES, Runner, Signals
from ...simulation.learning import Learning
from ...simulation.stored import as_stored
from .hidden_loss import Hidden
from .model_selection import Judge
from .output_loss import Goal, read_over_time

if TYPE_CHECKING:
    from ..compressed_layer import CompressedLayer

#: Slope of the surrogate: how fast the gradient of a spike falls with the distance from the threshold.
SLOPE = 5.0


@dataclass(frozen=True, eq=False)
class Constraint:
    """What a layer's weights must stay.

    mask: bool, the weight's shape; False stays exactly zero. grid: weights stay on its points; its step broadcasts
    against the weight. None allows any float.
    """

    mask: np.ndarray
    grid: Grid | None = None

    @classmethod
    def of(cls, layer: CompressedLayer) -> Constraint:
        """What compression decided about a layer. Weights that were kept but rounded to zero may come back."""
        if layer.step is None or layer.grid_range is None:
            return cls(layer.mask)
        low, high = layer.grid_range
        return cls(layer.mask, Grid(layer.step, high, low, 1 if high % 2 else 2))  # only grids of even integers end so

    def nearest(self, weight: Array) -> Array:
        """The allowed weights nearest to `weight`, float64."""
        if self.grid is not None:
            weight = self.grid.value(self.grid.nearest(weight))
        return np.where(self.mask, weight, 0.0)


class Surrogate(torch.autograd.Function):
    """Spikes forward; backward the derivative of a fast sigmoid (Zenke & Ganguli 2018)."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, spikes: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return gradient / (1 + SLOPE * distance.abs()) ** 2, None


def surrogate(distance: Tensor, spikes: Tensor) -> Tensor:
    found: Tensor = Surrogate.apply(distance, spikes)  # type: ignore[no-untyped-call]
    return found


def finetune(
    network: Network, constraints: Mapping[str, Constraint], data: CalibrationSet, *,
    teacher: Network | None = None, epochs: int = 5, learning_rate: float = 0.005, batch: int = 32, seed: int = 0,
    device: str = "cpu", progress: Callable[[int], None] | None = None,
) -> Network:
    """The network with the weights and biases of the constrained layers trained; the others stay as they are.

    data: with labels, the output with the most spikes (or the largest summed potential) is the class. teacher: the
    uncompressed network, whose summed outputs are to be met; needed without labels, when its hidden populations are to
    be met too (see `Hidden`). learning_rate: Adam's, as a share of each layer's largest weight; it falls to 0 along a
    cosine; a network that lost most of its accuracy wants more, up to 0.05. progress is called with the number of
    samples trained on so far, of epochs * those that do not judge: the others choose the epoch, and the start is
    returned when none is better there (see `Judge`). A note of the network returned says what was found.
    Memory: one batch of signals of all time steps, in parts of simulation.float.BLOCK_BYTES for the largest layer.
    Raises `Refused` with every problem of the arguments.
    """
    spikes, labels = data.spikes, data.labels
    check(network, constraints, data, teacher, epochs, learning_rate, batch)
    held, rest = np.flatnonzero(data.judges), np.flatnonzero(~data.judges)
    goal = Goal.of(network, spikes, labels, teacher, device)
    hidden = None if labels is not None or teacher is None else Hidden.of(network, teacher, spikes, device)
    layers = {name: Layer.of(network.nodes[name], c, device) for name, c in constraints.items()}
    parameters = [p for layer in layers.values() for p in layer.parameters]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(rest) // batch))
    part = part_of(network, spikes.shape[1])
    kept = (network.output, *(hidden.decays if hidden else ()))

    def run(stored: Network, learning: Learning | None, members: np.ndarray) -> tuple[Signals, Tensor]:
        """Signals of the outputs and the hidden populations, and the input, (timesteps, samples, *shape)."""
        runner = Runner(stored, kept, torch.float32, torch.device(device), learning=learning)
        x = torch.from_numpy(np.ascontiguousarray(spikes[members].swapaxes(0, 1)))
        x = x.to(device=device, dtype=torch.float32)
        return runner.run(x), x

    def of_outputs(signals: Signals, members: np.ndarray) -> Tensor:
        return goal.loss(read_over_time(network, signals[network.output]), members)

    def held_losses(candidate: Network) -> Array:
        stored, parts = as_stored(candidate), [held[k : k + part] for k in range(0, len(held), part)]
        return np.concatenate([of_outputs(run(stored, None, some)[0], some).cpu().numpy() for some in parts])

    best, judge = network, Judge(held_losses(network), labels is not None)
    for epoch in range(1, epochs + 1):
        shuffled = np.random.default_rng([seed, epoch]).permutation(rest)
        for first in range(0, len(shuffled), batch):
            members = shuffled[first : first + batch]
            optimizer.zero_grad()
            stored = as_stored(with_layers(network, layers))
            for k in range(0, len(members), part):
                # built anew for every part: backward frees the graph that leads through it
                learning = Learning({n: layer.forward(stored.nodes[n]) for n, layer in layers.items()}, surrogate)
                some = members[k : k + part]
                signals, x = run(stored, learning, some)
                loss = of_outputs(signals, some)
                if hidden is not None:
                    loss = loss + hidden.loss(signals, x)
                (loss.sum() / len(members)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            for layer in layers.values():
                layer.clamp()
            if progress:
                progress((epoch - 1) * len(rest) + min(first + batch, len(rest)))
        now = with_layers(network, layers)
        if judge.better(held_losses(now), epoch):
            best = now
    return replace(best, notes=(*best.notes, judge.note(epochs, len(rest))))


def part_of(network: Network, steps: int) -> int:
    """Samples that run together."""
    largest = max(int(np.prod(shape, dtype=int)) for shape in network.shapes.values())
    return max(1, BLOCK_BYTES // (largest * max(1, steps) * 4))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer in training: its weight and bias in units of its largest weight, so that one learning rate fits all."""

    constraint: Constraint
    unit: float
    weight: Tensor
    bias: Tensor | None
    ends: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, node: Node, constraint: Constraint, device: str) -> Layer:
        assert isinstance(node, (Linear, Conv))
        unit = float(np.abs(node.weight).max(initial=0.0)) or 1.0

        def tensor(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        ends = None
        if (grid := constraint.grid) is not None:
            low, high = grid.step * grid.low / unit, grid.step * grid.m_max / unit
            ends = tensor(np.minimum(low, high)), tensor(np.maximum(low, high))  # a negative step mirrors the grid
        bias = None if node.bias is None else tensor(node.bias / unit).requires_grad_()
        return cls(constraint, unit, tensor(node.weight / unit).requires_grad_(), bias, ends)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def node(self, node: Linear | Conv) -> Linear | Conv:
        """The node with the allowed weights nearest to those in training."""
        weight = self.constraint.nearest(self.weight.detach().cpu().numpy().astype(np.float64) * self.unit)
        bias = None
        if self.bias is not None and node.bias is not None:
            bias = (self.bias.detach().cpu().numpy().astype(np.float64) * self.unit).astype(node.bias.dtype)
        return replace(node, weight=weight.astype(node.weight.dtype), bias=bias)

    def forward(self, stored: Node) -> tuple[Tensor, Tensor | None]:
        """The stored node's weight and bias exactly, with the gradients of those in training."""
        assert isinstance(stored, (Linear, Conv))

        def straight_through(values: np.ndarray, latent: Tensor) -> Tensor:
            exact = torch.as_tensor(values, dtype=torch.float32, device=latent.device)
            return exact + (latent - latent.detach())

        weight = straight_through(stored.weight, self.weight * self.unit)
        if self.bias is None or stored.bias is None:
            return weight, None
        return weight, straight_through(stored.bias, self.bias * self.unit)

    @torch.no_grad()
    def clamp(self) -> None:
        """Weights beyond the end of the grid would take many updates to come back."""
        if self.ends is not None:
            torch.clamp(self.weight, *self.ends, out=self.weight)


def with_layers(network: Network, layers: Mapping[str, Layer]) -> Network:
    return network.with_nodes({
        name: layer.node(node) for name, layer in layers.items() if isinstance(node := network.nodes[name], WEIGHTED)
    })


def check(
    network: Network, constraints: Mapping[str, Constraint], data: CalibrationSet, teacher: Network | None,
    epochs: int, learning_rate: float, batch: int,
) -> None:
    """Raises `Refused` with everything that is wrong with the arguments of `finetune`."""
    spikes, labels = data.spikes, data.labels
    shape, classes = network.shapes[network.input], int(np.prod(network.shapes[network.output], dtype=int))
    problems = [p for name, c in constraints.items() for p in unmet(network, name, c)]
    if not constraints:
        problems.append(Problem("no layer has a constraint, so nothing would be trained",
                                fix="Give a mask for every layer that may change"))
    if spikes.ndim < 3 or spikes.shape[2:] != shape or spikes.shape[1] < 1:
        problems.append(Problem(f"the data has shape {spikes.shape}", f"input '{network.input}'",
                                f"Give spikes of shape (samples, timesteps, {', '.join(map(str, shape))})"))
    elif not data.judges.any() or data.judges.all():
        problems.append(Problem(f"{len(spikes)} samples are too few", fix=(
            "Give at least 2: one to train on and one to choose the epoch by; a few hundred are sensible")))
    if labels is None and teacher is None:
        problems.append(Problem("there is nothing to learn from", fix=(
            "Give labels, or the uncompressed network as teacher")))
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != spikes.shape[:1]:
            problems.append(Problem(f"the labels are {labels.dtype} of shape {labels.shape}", fix=(
                f"Give one integer for each of the {len(spikes)} samples")))
        elif len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            problems.append(Problem(f"the labels go from {labels.min()} to {labels.max()}", fix=(
                f"The network has {classes} outputs: give labels from 0 to {classes - 1}")))
    if teacher is not None:
        for what, mine, other in (("input", shape, teacher.shapes[teacher.input]),
                                  ("output", network.shapes[network.output], teacher.shapes[teacher.output])):
            if mine != other:
                problems.append(Problem(f"the teacher's {what} has shape {other}, the network's {mine}", fix=(
                    "Give the network that was compressed as teacher")))
    for what, value in (("epochs", epochs), ("batch", batch)):
        if value < 1:
            problems.append(Problem(f"{what} is {value}", fix="Give at least 1"))
    if not 0 < learning_rate < float("inf"):
        problems.append(Problem(f"learning_rate is {learning_rate}", fix="Give a positive number, such as 0.01"))
    if problems:
        raise Refused(problems)


def unmet(network: Network, name: str, constraint: Constraint) -> list[Problem]:
    """What is wrong with a constraint, or where the network does not meet it yet."""
    where, node = f"node '{name}'", network.nodes.get(name)
    if not isinstance(node, WEIGHTED):
        layers = ", ".join(n for n, node in network.nodes.items() if isinstance(node, WEIGHTED))
        return [Problem("a constraint needs a layer of weights", where, f"Layers are: {layers}")]
    problems = []
    shape = node.weight.shape
    if constraint.mask.shape != shape or constraint.mask.dtype != bool:
        problems.append(Problem(f"the mask is {constraint.mask.dtype} of shape {constraint.mask.shape}", where,
                                f"Give a bool array of shape {shape}"))
    if constraint.grid is not None:
        step = np.asarray(constraint.grid.step)
        fits = step.ndim <= len(shape) and all(
            a in (1, b) for a, b in zip(step.shape[::-1], shape[::-1], strict=False))
        if not fits or not np.all((step != 0) & np.isfinite(step)):
            problems.append(Problem(f"the grid's steps, of shape {step.shape}, do not fit", where, (
                f"Give steps that are not 0 and broadcast to {shape}")))
    if not problems:
        dtype = node.weight.dtype if node.weight.dtype.kind == "f" else np.dtype(np.float64)
        allowed = constraint.nearest(node.weight)
        if not np.allclose(node.weight, allowed, rtol=2 * float(np.finfo(dtype).eps), atol=0.0):
            problems.append(Problem("weights lie off the constraint's zeros or grid", where,
                                    "Give the compressed network with the constraint it was compressed under"))
    return problems
