"""Shape inference: the output shape of every node, with every mismatch reported.

Our own, because NIR's is wrong for kernels that are not square and fails for groups > 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..errors import Problem, Refused
from .nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Node, Output, Pool, Scale, Shape, Threshold


def windows(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int = 1) -> int:
    """How many windows fit along one axis (floor, as in PyTorch); 0 or less when none does."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def flattened(shape: Shape, start: int, end: int) -> Shape:
    """The shape after axes start..end (both included, negative from the back) become one."""
    n = len(shape)
    start, end = start % n, end % n
    return (*shape[:start], int(np.prod(shape[start : end + 1], dtype=int)), *shape[end + 1 :])


def _spatial(node: Conv | Pool, shape: Shape, kernel: Shape, dilation: Shape) -> Shape:
    if len(shape) != len(kernel) + 1:
        raise ValueError(f"needs an input of {len(kernel) + 1} axes (channels first), got shape {shape}")
    out = tuple(
        windows(n, k, s, p, d)
        for n, k, s, p, d in zip(shape[1:], kernel, node.stride, node.padding, dilation, strict=True)
    )
    if min(out) < 1:
        raise ValueError(f"its kernel {kernel} is larger than its padded input {shape[1:]}")
    return out


def output_shape(node: Node, shape: Shape) -> Shape:
    """Shape that `node` makes of an input of `shape`. Raises ValueError with a sentence when it can't."""
    if isinstance(node, Linear):
        if shape != (node.weight.shape[1],):
            raise ValueError(f"its weight {node.weight.shape} takes {node.weight.shape[1]} inputs, got shape {shape}")
        return (node.weight.shape[0],)
    if isinstance(node, Conv):
        channels = node.weight.shape[1] * node.groups
        if not shape or shape[0] != channels:
            raise ValueError(
                f"its weight {node.weight.shape} with groups {node.groups} takes {channels} channels, got shape {shape}"
            )
        return (node.weight.shape[0], *_spatial(node, shape, node.weight.shape[2:], node.dilation))
    if isinstance(node, Pool):
        return (shape[0], *_spatial(node, shape, node.kernel_size, (1,) * len(node.kernel_size)))
    if isinstance(node, Flatten):
        return flattened(shape, node.start_dim, node.end_dim)
    if isinstance(node, (Scale, Threshold, Delay)):
        values = node.scale if isinstance(node, Scale) else (
            node.threshold if isinstance(node, Threshold) else node.delay)
        if np.broadcast_shapes(values.shape, shape) != shape:
            raise ValueError(f"its parameters {values.shape} do not broadcast to its input {shape}")
        return shape
    if isinstance(node, Neuron):
        if node.shape != shape:
            raise ValueError(f"its parameters describe {node.shape} neurons, got an input of shape {shape}")
        return shape
    if isinstance(node, Output) and node.shape is not None and node.shape != shape:
        raise ValueError(f"it declares shape {node.shape}, got {shape}")
    return shape


#: What to do about a Flatten that counts the batch.
BATCH_FIX = "Export the Flatten with start_dim=0 (in general, with 1 less than now)"


def counts_the_batch(node: Node, name: str, before: Flatten, into: Shape) -> str:
    """The end of a sentence where a Linear layer would fit if the Flatten before it, `name`, of inputs of shape `into`,
    had not counted its axes with the batch."""
    start = before.start_dim
    if not isinstance(node, Linear) or start < 1 or start >= len(into):
        return ""
    if flattened(into, start - 1, before.end_dim) != (node.weight.shape[1],):
        return ""
    return (f"; '{name}' flattens {into} from axis {start} on and leaves what is before: shapes here have no batch, "
            f"and the axis that is {start} with one is {start - 1}")


def infer_shapes(
    nodes: dict[str, Node], order: Iterable[str], inputs_of: Callable[[str], tuple[str, ...]]
) -> dict[str, Shape]:
    """Output shape of every node in `order`. Raises `Refused` with every mismatch."""
    shapes: dict[str, Shape] = {}
    problems: list[Problem] = []
    for name in order:
        node = nodes[name]
        if isinstance(node, Input):
            shapes[name] = node.shape
            continue
        known = {a: shapes[a] for a in inputs_of(name) if a in shapes}
        if not known:
            problems.append(Problem(
                "nothing feeds it", f"node '{name}'", "Connect it to the input or remove it"))
            continue
        try:
            if len(set(known.values())) > 1:
                raise ValueError("it sums inputs of different shapes: " + ", ".join(
                    f"{a} {shape}" for a, shape in known.items()))
            shapes[name] = output_shape(node, next(iter(known.values())))
        except ValueError as error:
            why = next((said for a in known if isinstance(before := nodes[a], Flatten) and (
                said := counts_the_batch(node, a, before, shapes[inputs_of(a)[0]]))), "")
            problems.append(Problem(
                str(error) + why, f"node '{name}' ({type(node).__name__})",
                BATCH_FIX if why else f"Check the layers before it: {', '.join(known)}"))
            if isinstance(node, Neuron):  # go on from what the node itself says
                shapes[name] = node.shape
    if problems:
        raise Refused(problems)
    for name in order:  # feedback edges close only when all shapes are known
        for a in inputs_of(name):
            want = next(shapes[b] for b in inputs_of(name) if b in shapes)
            if shapes[a] != want:
                problems.append(Problem(
                    f"the feedback from '{a}' has shape {shapes[a]}, expected {want}", f"node '{name}'",
                    "Make the recurrent layer's outputs match the neurons it feeds"))
    if problems:
        raise Refused(problems)
    return shapes
