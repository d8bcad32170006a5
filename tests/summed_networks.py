"""Networks of sums, drawn from a seed: SEW blocks, membrane shortcuts, sums behind pools, loops that are summed."""

from __future__ import annotations

import numpy as np

from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Node, Output, Pool, Scale

RULE = Conventions(dt=1.0, decay="euler", recurrent_bias_at_start=True)


class Blocks:
    """A network as it grows. ends: nodes whose sum is the present signal."""

    def __init__(self, seed: int, shape: tuple[int, ...], rule: Conventions = RULE):
        self.rng, self.rule = np.random.default_rng(seed), rule
        self.nodes: dict[str, Node] = {"in": Input(shape)}
        self.edges: list[tuple[str, str]] = []
        self.ends, self.shape = ["in"], shape

    def add(self, name: str, node: Node, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(a, name) for a in sources]
        return name

    def conv(self, name: str, *sources: str) -> str:
        c = self.shape[0]
        bias = self.rng.normal(0, 0.05, c) if self.rng.random() < 0.5 else None
        weight = self.rng.normal(0.15, 0.5, (c, c, 3, 3)) / np.sqrt(c)
        return self.add(name, Conv(weight, bias, (1, 1), ((1, 1), (1, 1)), (1, 1)), *sources)

    def linear(self, name: str, n: int, *sources: str) -> str:
        bias = self.rng.normal(0, 0.05, n) if self.rng.random() < 0.5 else None
        return self.add(name, Linear(self.rng.normal(0.1, 1, (n, self.shape[0])) / np.sqrt(self.shape[0]), bias),
                        *sources)

    def neurons(self, name: str, *sources: str, shape: tuple[int, ...] | None = None) -> str:
        shape = shape or self.shape
        one = np.ones(shape)
        leak = {"tau_mem": 3.0 * one, "v_leak": 0 * one} if self.rng.random() < 0.5 else {}
        return self.add(name, Neuron(shape, r=one * (3 if leak else 1), v_threshold=0.6 * one, v_reset=0 * one, **leak),
                        *sources)

    def sew_block(self, k: int) -> None:
        """x + spikes(conv(spikes(conv(x))))."""
        first = self.neurons(f"n{k}a", self.conv(f"c{k}a", *self.ends))
        self.ends = [*self.ends, self.neurons(f"n{k}b", self.conv(f"c{k}b", first))]

    def ms_block(self, k: int) -> None:
        """A membrane shortcut: the currents are summed, not the spikes; `ends` are layers of weights."""
        first = self.neurons(f"m{k}a", *self.ends)
        second = self.neurons(f"m{k}b", self.conv(f"d{k}a", first))
        self.ends = [*self.ends, self.conv(f"d{k}b", second)]

    def pool(self, name: str, kind: str) -> None:
        self.add(name, Pool(kind, (2, 2), (2, 2), ((0, 0), (0, 0))), *self.ends)
        self.ends, self.shape = [name], (self.shape[0], self.shape[1] // 2, self.shape[2] // 2)

    def done(self, classes: int = 3) -> Network:
        if len(self.shape) > 1:
            self.add("flat", Flatten(0, -1), *self.ends)
            self.ends, self.shape = ["flat"], (int(np.prod(self.shape)),)
        last = self.neurons("last", self.linear("fc", classes, *self.ends), shape=(classes,))
        self.add("out", Output((classes,)), last)
        return Network(self.nodes, tuple(self.edges), self.rule)


def sew(seed: int, blocks: int = 2, channels: int = 2, size: int = 4, kind: str = "average") -> Network:
    """A stem, SEW blocks, and a pool of the sum of all that they send."""
    b = Blocks(seed, (channels, size, size))
    b.ends = [b.neurons("stem_n", b.conv("stem", "in"))]
    for k in range(blocks):
        b.sew_block(k)
    b.pool("pool", kind)
    return b.done()


def ms(seed: int, blocks: int = 2) -> Network:
    """Membrane shortcuts: every convolution feeds all populations behind it, through a sum."""
    b = Blocks(seed, (2, 4, 4))
    b.ends = [b.conv("stem", "in")]
    for k in range(blocks):
        b.ms_block(k)
    b.ends = [b.neurons("top", *b.ends)]
    return b.done()


def scaled_sum(seed: int) -> Network:
    """A layer given one population as it is and another through a scale, or an average pool beside a sum pool."""
    b = Blocks(seed, (2, 4, 4))
    first = b.neurons("a", b.conv("ca", "in"))
    second = b.neurons("b", b.conv("cb", first))
    if b.rng.random() < 0.5:
        b.ends = [first, b.add("half", Scale(np.asarray(b.rng.choice([0.5, 1.0]))), second)]
    else:
        pools = [b.add(f"p{k}", Pool(kind, (2, 2), (2, 2), ((0, 0), (0, 0))), source)
                 for k, (kind, source) in enumerate((("sum", first), ("average", second)))]
        b.ends, b.shape = pools, (2, 2, 2)
    b.ends = [b.neurons("c", b.conv("cc", *b.ends))]
    return b.done()


def looped(seed: int) -> Network:
    """A layer given what comes from outside and what its own population and the next one send."""
    b = Blocks(seed, (5,))
    b.neurons("a", b.linear("wa", 5, "in"))
    b.neurons("b", b.linear("wb", 5, "a", "b"))
    b.neurons("c", b.linear("wc", 5, "b", "a"))
    if b.rng.random() < 0.5:
        b.edges.append(("c", "wb"))
    if b.rng.random() < 0.5:  # and the layer feeds two populations
        b.edges.append(("wb", "c"))
    b.ends = ["c", "a"]
    return b.done()


def folded(seed: int) -> Network:
    """In one corner a pool lies behind a convolution of a sum, and a product of layers; elsewhere are sums."""
    b = Blocks(seed, (2, 4, 4))
    b.ends = [b.neurons("stem_n", b.conv("stem", "in"))]
    b.sew_block(0)
    b.conv("wide", *b.ends)
    b.ends = ["wide"]
    if b.rng.random() < 0.5:  # the convolution feeds neurons of its own too
        b.neurons("beside", "wide")
        b.ends = ["wide", "beside"]  # a sum of weights' outputs and of spikes, pooled
    b.pool("pool", str(b.rng.choice(["sum", "average"])))
    b.ends = [b.neurons("d", *b.ends)]
    b.add("flat1", Flatten(0, -1), *b.ends)
    b.shape = (8,)
    b.linear("p1", 6, "flat1")
    b.shape = (6,)
    b.linear("p2", 5, "p1")
    b.neurons("e", "p2", shape=(5,))
    if b.rng.random() < 0.5:  # and the first of the product feeds neurons of its own
        b.neurons("f", "p1", shape=(6,))
    if b.rng.random() < 0.5:  # two ways from the first to the same neurons
        b.linear("p3", 5, "p1")
        b.edges.append(("p3", "e"))
    b.shape, b.ends = (5,), ["e"]
    return b.done()


KINDS = {"sew": sew, "ms": ms, "scaled": scaled_sum, "looped": looped, "folded": folded}


def drawn(kind: str, seed: int) -> Network:
    return KINDS[kind](seed)


def spikes_for(network: Network, seed: int, samples: int = 4, steps: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    return (rng.random((samples, steps, *network.shapes[network.input])) < 0.4).astype(np.uint8)
