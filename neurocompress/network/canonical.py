"""Folding: a row of nodes without memory as at most one node of weights, with pools, flattening and delays around it.

Scales, averages and products of layers are folded into the weights before anything is compressed, so that
what is put on a chip's grid is what the chip stores.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Problem, Refused
from .graph import SOURCES, Network
from .kernel import Kernel
from .nodes import Conv, Delay, Flatten, Linear, Node, Output, Pool, Scale, Shape
from .shapes import output_shape

if TYPE_CHECKING:
    from scipy import sparse

#: Largest matrix that a product of layers may become, and most weights that folding may add to a network.
MATERIALIZE_MAX = 2**26

#: Most paths of layers between the populations of a network, and into one of them; most layers on one path.
MAX_PATHS, MAX_PATHS_INTO, MAX_LAYERS = 2000, 1000, 200


def paths_into(network: Network, target: str) -> list[tuple[str, ...]]:
    """Every path that ends in `target` and starts at the population (or input) before it."""
    finished: list[tuple[str, ...]] = []
    open_paths: deque[tuple[str, ...]] = deque([(target,)])
    while open_paths:
        path = open_paths.popleft()
        for source in network.inputs_of(path[0]):
            longer = (source, *path)
            if isinstance(network.nodes[source], SOURCES):
                finished.append(longer)
            else:
                open_paths.append(longer)
        if len(open_paths) + len(finished) > MAX_PATHS_INTO:
            raise Refused(Problem(f"more than {MAX_PATHS_INTO} paths of layers lead into it", f"node '{target}'",
                                  "Put neurons between the branches"))
        if len(path) > MAX_LAYERS:
            raise Refused(Problem(f"more than {MAX_LAYERS} layers lead into it one after the other",
                                  f"node '{target}'", "Put neurons between the layers"))
    return finished


@np.errstate(over="ignore", invalid="ignore")  # a rule refuses what lies beyond every number
def fold(chain: list[tuple[str, Node]], shape: Shape, target_shape: Shape) -> list[tuple[str, Node]]:
    """A chain of stateless nodes over an input of `shape`, folded. Raises ValueError when it can't be."""
    chain = [item for item in chain if not isinstance(item[1], Output)]
    chain = [part for name, node in chain for part in _without_average(name, node)]
    changed = True
    while changed:
        changed = False
        here = shape
        for k in range(len(chain) - 1):
            (first, a), (second, b) = chain[k], chain[k + 1]
            pair = _pair(a, b, here)
            if pair is not None:
                names = [second if isinstance(a, Scale) else first] if len(pair) == 1 else [second, first]
                chain[k : k + 2] = list(zip(names, pair, strict=True))
                changed = True
                break
            here = output_shape(a, here)
    if _conforms([node for _, node in chain]):
        return chain
    if len(chain) >= 1 and isinstance(chain[-1][1], Scale) and _conforms([n for _, n in chain[:-1]]) \
            and not any(isinstance(n, (Linear, Conv)) for _, n in chain):
        return [*chain[:-1], (chain[-1][0], _as_weights(chain[-1][1], target_shape))]
    return _materialized(chain, shape, target_shape)


def _without_average(name: str, node: Node) -> list[tuple[str, Node]]:
    if isinstance(node, Pool) and node.kind == "average":
        share = np.asarray(1.0 / np.prod(node.kernel_size))
        return [(name, replace(node, kind="sum")), (f"{name}.mean", Scale(share))]
    return [(name, node)]


def _conforms(nodes: list[Node]) -> bool:
    """(Pool | Flatten | Delay)* (Linear | Conv)? (Flatten | Delay)*"""
    weighted = [k for k, node in enumerate(nodes) if isinstance(node, (Linear, Conv))]
    if any(isinstance(node, Scale) for node in nodes) or len(weighted) > 1:
        return False
    return not weighted or not any(isinstance(node, Pool) for node in nodes[weighted[0] :])


def _per_channel(scale: np.ndarray, shape: Shape) -> np.ndarray | None:
    """scale as one number per channel of a (c, ...) signal, or None when it differs within a channel."""
    full = np.broadcast_to(scale, shape).reshape(shape[0], -1)
    return full[:, 0] if np.all(full == full[:, :1]) else None


def _pair(a: Node, b: Node, shape: Shape) -> list[Node] | None:
    """Two neighbours as one node, or swapped; None when they stay as they are. `shape` feeds `a`."""
    if isinstance(a, Scale) and a.scale.size == 1 and isinstance(b, (Pool, Flatten, Delay)):
        return [b, Scale(a.scale.reshape(()))]
    if isinstance(a, Scale) and isinstance(b, Scale):
        return [Scale(np.broadcast_to(a.scale, shape) * b.scale if a.scale.size > 1 else a.scale * b.scale)]
    if isinstance(a, Scale) and isinstance(b, Linear):
        return [replace(b, weight=b.weight * np.broadcast_to(a.scale, shape)[None, :])]
    if isinstance(a, Scale) and isinstance(b, Conv):
        channel = _per_channel(a.scale, shape)
        if channel is None:
            return None
        c_out, c_group = b.weight.shape[:2]
        groups = np.arange(c_out) // (c_out // b.groups)
        factor = channel[groups[:, None] * c_group + np.arange(c_group)[None, :]]
        return [replace(b, weight=b.weight * factor.reshape(c_out, c_group, *(1,) * (b.weight.ndim - 2)))]
    if isinstance(a, Linear) and isinstance(b, Scale):
        row = np.broadcast_to(b.scale, (a.weight.shape[0],))
        return [Linear(a.weight * row[:, None], None if a.bias is None else a.bias * row)]
    if isinstance(a, Conv) and isinstance(b, Scale):
        channel = _per_channel(b.scale, output_shape(a, shape))
        if channel is None:
            return None
        weight = a.weight * channel.reshape(-1, *(1,) * (a.weight.ndim - 1))
        return [replace(a, weight=weight, bias=None if a.bias is None else a.bias * channel)]
    if isinstance(a, Linear) and isinstance(b, Linear) and b.weight.shape[0] * a.weight.shape[1] <= MATERIALIZE_MAX:
        bias = None if a.bias is None else b.weight @ a.bias
        return [Linear(b.weight @ a.weight, b.bias if bias is None else bias + (0 if b.bias is None else b.bias))]
    if isinstance(a, Conv) and isinstance(b, Pool) and not any(n for pad in b.padding for n in pad):
        return [_pooled_conv(a, b)]
    return None


def within_limit(weights: int) -> None:
    """Raises ValueError, before they are made, when a layer would become this many weights."""
    if weights > MATERIALIZE_MAX:
        raise ValueError(f"a pool and a layer of weights together make {weights} weights, at most {MATERIALIZE_MAX}")


def _pooled_conv(conv: Conv, pool: Pool) -> Conv:
    """A convolution followed by sum pooling, as one convolution with a larger kernel and stride."""
    kernel = conv.weight.shape[2:]
    steps = [s * (p - 1) + d * (k - 1) + 1
             for s, p, d, k in zip(conv.stride, pool.kernel_size, conv.dilation, kernel, strict=True)]
    within_limit(math.prod((*conv.weight.shape[:2], *steps)))
    weight = np.zeros((*conv.weight.shape[:2], *steps), dtype=conv.weight.dtype)
    for shift in np.ndindex(*pool.kernel_size):
        at = tuple(
            slice(i * s, i * s + d * (k - 1) + 1, d)
            for i, s, d, k in zip(shift, conv.stride, conv.dilation, kernel, strict=True)
        )
        weight[(slice(None), slice(None), *at)] += conv.weight
    bias = None if conv.bias is None else conv.bias * np.prod(pool.kernel_size)
    stride = tuple(a * b for a, b in zip(conv.stride, pool.stride, strict=True))
    return Conv(weight, bias, stride, conv.padding, (1,) * len(stride), conv.groups)


def _as_weights(scale: Node, shape: Shape) -> Node:
    """A scaling that no layer of weights follows, as weights of its own: one synapse per neuron."""
    assert isinstance(scale, Scale)
    channel = _per_channel(scale.scale, shape) if len(shape) > 1 else None
    if channel is not None:
        n = len(shape) - 1
        return Conv(channel.reshape(-1, 1, *(1,) * n), None, (1,) * n, ((0, 0),) * n, (1,) * n, shape[0])
    if len(shape) == 1 and shape[0] ** 2 <= MATERIALIZE_MAX:
        return Linear(np.diag(np.broadcast_to(scale.scale, shape)))
    raise ValueError("a scaling that differs within a channel is followed by no layer of weights")


def matrix_of(node: Node, shape: Shape) -> sparse.csr_array:
    """A stateless linear node over an input of `shape`, as a (targets, sources) sparse matrix."""
    from scipy import sparse

    n = int(np.prod(shape))
    if isinstance(node, Linear):
        return sparse.csr_array(node.weight)
    if isinstance(node, Conv):
        kernel = Kernel.of(shape, node.weight.shape, node.stride, node.padding, node.dilation, node.groups)
        return kernel.matrix(node.weight)
    if isinstance(node, Pool):
        ones = np.ones((shape[0], 1, *node.kernel_size))
        if node.kind == "average":
            ones /= np.prod(node.kernel_size)
        return Kernel.of(shape, ones.shape, node.stride, node.padding, (1,) * len(node.stride), shape[0]).matrix(ones)
    if isinstance(node, Scale):
        return sparse.csr_array(sparse.diags_array(np.broadcast_to(node.scale, shape).ravel().astype(np.float64)))
    if isinstance(node, Flatten):
        return sparse.csr_array(sparse.eye_array(n))
    raise ValueError(f"a {type(node).__name__} node has no weights")


def _materialized(chain: list[tuple[str, Node]], shape: Shape, target_shape: Shape) -> list[tuple[str, Node]]:
    """The chain as one Linear layer. Raises ValueError when that is too large or can not be written."""
    if any(isinstance(node, Delay) for _, node in chain):
        raise ValueError("a delay lies between layers of weights")
    if len(target_shape) != 1:
        raise ValueError("several layers of weights without a neuron between them end in neurons of an image")
    if int(np.prod(shape)) * target_shape[0] > MATERIALIZE_MAX:
        raise ValueError("several layers of weights without a neuron between them are too large to multiply out")
    from scipy import sparse

    total, bias, here = sparse.csr_array(sparse.eye_array(int(np.prod(shape)))), np.zeros(()), shape
    for _, node in chain:
        step = matrix_of(node, here)
        here = output_shape(node, here)
        total = step @ total
        bias = step @ np.broadcast_to(bias, step.shape[1])
        if isinstance(node, Linear) and node.bias is not None:
            bias = bias + node.bias
        if isinstance(node, Conv) and node.bias is not None:
            bias = bias + np.repeat(node.bias, bias.size // node.bias.size)
    weighted = [name for name, node in chain if isinstance(node, (Linear, Conv))]
    name = weighted[-1] if weighted else chain[-1][0]
    linear = Linear(total.toarray(), bias if np.any(bias) else None)
    head: list[tuple[str, Node]] = [] if len(shape) == 1 else [(f"{name}.flatten", Flatten(0, -1))]
    return [*head, (name, linear)]
