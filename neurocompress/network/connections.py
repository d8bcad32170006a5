"""The synapses of a network: one linear map from each population to each population it drives.

Everything between two populations (pooling, flattening, one layer of weights) is folded into one map, because
a chip has synapses and neurons and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import Problem, Refused
from .canonical import MAX_PATHS, matrix_of, paths_into, within_limit
from .chip_form import chip_form
from .discrete import delay_steps
from .form import unlike
from .graph import Network
from .kernel import Kernel
from .nodes import Array, Conv, Delay, Linear, Neuron, Pool, Shape
from .shapes import windows

if TYPE_CHECKING:
    from scipy import sparse


#: A dense array, or a sparse matrix (scipy is slow to import and loaded only where one is made).
Weight: TypeAlias = "np.ndarray | sparse.csr_array"


@dataclass(frozen=True, eq=False)
class Connection:
    """One linear map from a population to a population.

    name: the node that holds the weights (a pooling node's name when nothing else lies between), with "@source>target"
        behind it where several connections have its weights.
    weight: (targets, sources) dense array or csr_array, or a convolution kernel (c_out, c_in / groups, *kernel)
        when `kernel` says where it slides. Targets and sources are in row-major order of their shapes.
    bias: (targets,) or None. It is constant input to the target in every step.
    delay: time steps on top of the graph: 1 for feedback, more for Delay nodes; (sources,) when it differs.
    trained: False when the weights are those of a fixed node (a pool, or an edge without weights).
    repeats: how often pooling repeats each stored weight (1 without pooling).
    node: the node that holds the weights, where several connections share it; see `layer`.
    """

    name: str
    source: str
    target: str
    weight: Weight
    kernel: Kernel | None
    bias: Array | None
    source_shape: Shape
    target_shape: Shape
    delay: int | np.ndarray = 0
    feedback: bool = False
    trained: bool = True
    repeats: int = 1
    node: str = ""

    @property
    def layer(self) -> str:
        """The layer of weights whose bits and zeros these are: every connection that shares it has the same."""
        return self.node or self.name

    @property
    def n_sources(self) -> int:
        return int(np.prod(self.source_shape))

    @property
    def n_targets(self) -> int:
        return int(np.prod(self.target_shape))

    def matrix(self) -> sparse.csr_array:
        """The map as a (targets, sources) sparse matrix."""
        from scipy import sparse

        if self.kernel is not None:
            return self.kernel.matrix(np.asarray(self.weight))
        return sparse.csr_array(self.weight)


def connections(network: Network) -> tuple[Connection, ...]:
    """The synapses of a network, in order of computation of their targets. Takes its `chip_form` first: a layer of
    weights with several sources is a connection from each, and the first of them that closes no loop has its bias.

    Edges into the Output node are no synapses. Raises `Refused` for what has no such form.
    """
    network = chip_form(network)
    paths: list[tuple[str, ...]] = []
    for target in network.populations:
        paths += paths_into(network, target)
        if len(paths) > MAX_PATHS:
            raise Refused(Problem(f"the network has more than {MAX_PATHS} paths of layers between its neurons",
                                  fix="Put neurons between the branches"))
    known: Known = {}
    found = [connection_of(network, path, known) for path in paths]
    carried = Counter(name for path in paths for name in set(path[1:-1]))
    biased = set(_with_bias(paths, found))
    named: dict[str, Connection] = {}
    for k, c in enumerate(found):
        own = f"@{c.source}>{c.target}"
        shared = carried[c.name] > 1 and not c.name.endswith(own)
        name = unlike(f"{c.name.removesuffix(f'@>{c.target}')}{own}" if shared else c.name, own, named)
        named[name] = replace(c, name=name, node=c.name if c.trained else "", bias=c.bias if k in biased else None)
    return tuple(named.values())


def _with_bias(paths: list[tuple[str, ...]], found: list[Connection]) -> Iterator[int]:
    """Which connections bring the bias of their layer: of those that share its way into the target the first that
    closes no loop, or the first."""
    ways: dict[tuple[str, ...], list[int]] = {}
    for k, (path, c) in enumerate(zip(paths, found, strict=True)):
        if c.trained:
            ways.setdefault(path[path.index(c.name):], []).append(k)
    for shared in ways.values():
        yield next((k for k in shared if not found[k].feedback), shared[0])


#: Weights that are folded already: by the nodes that they are of, and the shape before them.
Known: TypeAlias = "dict[tuple[object, ...], tuple[Weight, Kernel | None]]"


def connection_of(network: Network, path: tuple[str, ...], known: Known | None = None) -> Connection:
    """One path of a network in `chip_form` (see `paths_into`) as a connection; its target may be the output. known:
    shared by the calls for one network, so that connections of one layer share their weights too."""
    source, target = path[0], path[-1]
    shape, target_shape = network.shapes[source], network.shapes[target]
    feedback = any(edge in network.feedback for edge in itertools.pairwise(path))
    delay: int | np.ndarray = int(feedback)
    if feedback and path[-2:] not in network.feedback and isinstance(network.nodes[target], Neuron):
        delay += network.conventions.synaptic_delay  # it closes before the layer, and what leaves that is late too
    pools: list[Pool] = []
    weighted: Linear | Conv | None = None
    name = path[-2] if len(path) > 2 else f"{source}>{target}"
    pooled_shape = shape
    for n in path[1:-1]:
        node = network.nodes[n]
        if isinstance(node, Delay):
            delay = delay + _delay_steps(network, n, node, shape, bool(pools) or weighted is not None)
        elif isinstance(node, Pool):
            pools.append(node)
            pooled_shape = (shape[0], *(
                windows(*args)
                for args in zip(pooled_shape[1:], node.kernel_size, node.stride, node.padding, strict=True)
            ))
            name = n
        elif isinstance(node, (Linear, Conv)):
            weighted, name = node, n
    key = (tuple(map(id, pools)), id(weighted), shape, target_shape)
    try:
        if known is None or key not in known:
            known = {} if known is None else known
            known[key] = _folded(pools, weighted, shape, pooled_shape, target_shape)
        weight, kernel = known[key]
    except ValueError as error:
        raise Refused(Problem(str(error), f"path {' -> '.join(path)}",
                              "Put a neuron between its layers, or use smaller pools")) from None
    bias = None
    if weighted is not None and weighted.bias is not None and np.any(weighted.bias):
        bias = np.repeat(weighted.bias, int(np.prod(target_shape)) // weighted.bias.size).astype(np.float64)
    repeats = int(np.prod([k for pool in pools for k in pool.kernel_size], dtype=int))
    return Connection(name, source, target, weight, kernel, bias, shape, target_shape, delay, feedback,
                      weighted is not None, repeats)


def _delay_steps(network: Network, name: str, node: Delay, shape: Shape, mixed: bool) -> int | np.ndarray:
    steps = delay_steps(node, network.conventions)
    if np.all(steps == steps.flat[0]):
        return int(steps.flat[0])
    if mixed:
        raise Refused(Problem("its delays differ between elements after a layer of weights", f"node '{name}'",
                              "Put the Delay node right after the neurons"))
    if steps.size == int(np.prod(shape)):  # behind a Flatten it has another shape than the neurons
        return np.array(steps).ravel()
    return np.broadcast_to(steps, shape).ravel().copy()


def _folded(
    pools: list[Pool], weighted: Linear | Conv | None, shape: Shape, pooled_shape: Shape, target_shape: Shape
) -> tuple[Weight, Kernel | None]:
    """Pooling and one layer of weights as one weight, with its kernel where it is still a convolution."""
    if weighted is None and not pools:
        from scipy import sparse

        return sparse.csr_array(sparse.eye_array(int(np.prod(shape)))), None
    if weighted is None:
        n = len(shape) - 1
        weighted = Conv(np.ones((shape[0], 1, *(1,) * n)), None, (1,) * n, ((0, 0),) * n, (1,) * n, shape[0])
    conv: Conv | None = weighted if isinstance(weighted, Conv) else None
    here = pooled_shape
    sizes = [shape]
    for pool in pools:
        sizes.append((shape[0], *(
            windows(*args) for args in zip(sizes[-1][1:], pool.kernel_size, pool.stride, pool.padding, strict=True))))
    for pool, size in zip(reversed(pools), reversed(sizes[:-1]), strict=True):
        conv = None if conv is None else _before_pool(pool, conv, size, here)
        here = size
    if conv is not None:
        return conv.weight, Kernel.of(shape, conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups)
    if not pools:
        return np.asarray(weighted.weight), None
    if isinstance(weighted, Linear):
        spread = np.asarray(weighted.weight).reshape(-1, *pooled_shape)
        for pool, size in zip(reversed(pools), reversed(sizes[:-1]), strict=True):
            spread = _unpooled(pool, spread, size)
        return spread.reshape(len(spread), -1), None
    total = matrix_of(weighted, pooled_shape)
    for pool, size in zip(reversed(pools), reversed(sizes[:-1]), strict=True):
        total = total @ matrix_of(pool, size)
    return total, None


def _unpooled(pool: Pool, weight: np.ndarray, size: Shape) -> np.ndarray:
    """Weights (rows, c, h, w) behind a sum pool as weights before it, (rows, *size): each repeated over its window."""
    (top, bottom), (left, right) = pool.padding
    within_limit(len(weight) * size[0] * (size[1] + top + bottom) * (size[2] + left + right))
    wide = np.zeros((len(weight), size[0], size[1] + top + bottom, size[2] + left + right), dtype=weight.dtype)
    for i, j in np.ndindex(*pool.kernel_size):
        rows = slice(i, i + (weight.shape[2] - 1) * pool.stride[0] + 1, pool.stride[0])
        columns = slice(j, j + (weight.shape[3] - 1) * pool.stride[1] + 1, pool.stride[1])
        wide[:, :, rows, columns] += weight
    return wide[:, :, top : top + size[1], left : left + size[2]]


def _before_pool(pool: Pool, conv: Conv, size: Shape, pooled: Shape) -> Conv | None:
    """Sum pooling followed by a convolution, as one convolution; None where the edges would differ."""
    kernel = conv.weight.shape[2:]
    if any(n for pad in pool.padding for n in pad) or any(
        p > s for p, s in zip(pool.kernel_size, pool.stride, strict=True)
    ):
        return None
    steps, padding = [], []
    for n, m, p, sp, k, s, d, (before, after) in zip(
        size[1:], pooled[1:], pool.kernel_size, pool.stride, kernel, conv.stride, conv.dilation, conv.padding,
        strict=True,
    ):
        out = windows(m, k, s, (before, after), d)
        reaches_padding = (out - 1) * s + (k - 1) * d - before > m - 1
        if reaches_padding and m * sp < n:
            return None  # the pixels that pooling drops would show through the padding
        length = (k - 1) * d * sp + p
        steps.append(length)
        padding.append((before * sp, max(0, (out - 1) * s * sp + length - n - before * sp)))
        if windows(n, length, s * sp, padding[-1]) != out:
            return None
    within_limit(math.prod((*conv.weight.shape[:2], *steps)))
    weight = np.zeros((*conv.weight.shape[:2], *steps), dtype=conv.weight.dtype)
    for shift in np.ndindex(*pool.kernel_size):
        at = tuple(
            slice(i, i + (k - 1) * d * sp + 1, d * sp)
            for i, k, d, sp in zip(shift, kernel, conv.dilation, pool.stride, strict=True)
        )
        weight[(slice(None), slice(None), *at)] += conv.weight
    stride = tuple(a * b for a, b in zip(conv.stride, pool.stride, strict=True))
    return Conv(weight, conv.bias, stride, tuple(padding), (1,) * len(stride), conv.groups)
