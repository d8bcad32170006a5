"""What a layer is called before people: a name that is only a number says nothing, so its kind and sizes stand beside.

JSON, files and Python keep the plain name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from ..shown import times
from .graph import Network
from .nodes import Conv, Linear, Neuron, Node, Pool, Shape

#: Names that say nothing: "0", "1", "3.0".
NUMBER = re.compile(r"\d+(\.\d+)*")


class Population(Protocol):
    """What is read of a population on a chip."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...


class Populated(Protocol):
    """A network on its chip."""

    @property
    def populations(self) -> Sequence[Population]: ...


def layer_title(name: str, node: Node, shape: Shape) -> str:
    """"layer 0 (Linear 784 x 128)" for a name that is a number, and any other name as it is. shape: of its output."""
    if not NUMBER.fullmatch(name):
        return name
    kind = node_kind(node)
    if isinstance(node, Linear):
        sizes: tuple[int, ...] = node.weight.shape[::-1]
    elif isinstance(node, Conv):
        sizes = (node.weight.shape[1] * node.groups, node.weight.shape[0])
        kind, sizes = f"{kind} {times(sizes)}, kernel", node.weight.shape[2:]
    else:
        sizes = shape
    return f"layer {name} ({kind} {times(sizes)})"


def all_titles(network: Network | Populated) -> dict[str, str]:
    """The titles of all nodes (of a chip's network: populations) whose names are numbers."""
    if isinstance(network, Network):
        return {name: layer_title(name, node, network.shapes[name]) for name, node in network.nodes.items()
                if NUMBER.fullmatch(name)}
    return {p.name: f"layer {p.name} (neurons {times(p.shape)})" for p in network.populations
            if NUMBER.fullmatch(p.name)}


def titles_of(network: Network) -> Callable[[str], str]:
    """`titled` for the nodes of one network."""
    return partial(titled, all_titles(network))


def titled(titles: Mapping[str, str], text: str) -> str:
    """A name, several joined by commas, or a sentence that quotes names, with titles instead of numbers."""
    if not titles:
        return text
    names = text.split(", ")
    if all(" " not in name for name in names):
        return ", ".join(titles.get(name, name) for name in names)
    return re.sub(r"(?:(?:layer|node|population) )?'(\d+(?:\.\d+)*)'", lambda found: titles.get(found[1], found[0]),
                  text)


def node_kind(node: Node) -> str:
    """NIR's name of a node, with the axes of a convolution and the kind of a pool."""
    if isinstance(node, Neuron):
        return node.kind
    if isinstance(node, Conv):
        return f"Conv{node.weight.ndim - 2}d"
    if isinstance(node, Pool):
        return "SumPool2d" if node.kind == "sum" else "AvgPool2d"
    if isinstance(node, Linear):
        return "Linear" if node.bias is None else "Affine"
    return type(node).__name__
