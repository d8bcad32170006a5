"""The rules of fitting of chips whose cores hold one layer each, a convolution in front of its neurons (Speck)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...chip.profile.fact import Entry
from ...network.nodes import Pool
from ..mapping.layer_cores import LayerCore, assigned, layer_cores, weights_into, words_of
from .rule import Case, Finding, Unchecked, Violation, limit_of, rule

#: What a layer takes of a core: the rule, the limit of `Core`, and how it reads.
WORDS = (("NC401", "kernel_words", "kernel memory of a core"), ("NC402", "neuron_words", "neuron memory of a core"),
         ("NC403", "bias_words", "bias memory of a core"))


def _words(code: str, name: str, resource: str, case: Case) -> Iterator[Finding]:
    entry: Entry[list[int]] | None = getattr(case.profile.core, name)
    if entry is None:
        return
    if entry.value is None:
        yield Unchecked(code, resource, entry.source)
        return
    for layer in layer_cores(case.network):
        if getattr(layer, name) > max(entry.value):
            yield Violation(code, layer.name, resource, getattr(layer, name), max(entry.value), "words",
                            "Choose fewer channels or a smaller kernel just below a power of two; words are padded to "
                            "one" if name == "kernel_words" else "Choose fewer channels, or pool before this layer")


@rule("NC401", "core.kernel_words")
def kernel_memory(case: Case) -> Iterator[Finding]:
    """The weights of a layer, taps and output channels padded to powers of two, fit the kernel memory of a core.

    Fix: Choose fewer channels or a smaller kernel, just below a power of two.
    """
    yield from _words(*WORDS[0], case)


@rule("NC402", "core.neuron_words")
def neuron_memory(case: Case) -> Iterator[Finding]:
    """The neurons of a layer, height and width padded to powers of two, fit the neuron memory of a core.

    Fix: Choose fewer channels, or pool before this layer.
    """
    yield from _words(*WORDS[1], case)


@rule("NC403", "core.bias_words")
def bias_memory(case: Case) -> Iterator[Finding]:
    """The biases of a layer fit the bias memory of a core.

    Fix: Choose fewer channels, or pool before this layer.
    """
    yield from _words(*WORDS[2], case)


@rule("NC404", "topology.one_layer_per_core")
def one_layer_per_core(case: Case) -> Iterator[Finding]:
    """Every layer gets a core of its own that has room for its kernel, its neurons and its biases together.

    Fix: Choose fewer channels in the largest layers, which the message lists.
    """
    entry, per_chip = case.profile.topology.one_layer_per_core, case.profile.topology.cores_per_chip.value
    if entry is None or entry.value is False:
        return
    words = words_of(case.profile)
    if entry.value is None or per_chip is None:
        yield Unchecked("NC404", "a core for each layer", entry.source)
        return
    found = [layer for layer in layer_cores(case.network)  # what no core holds has a rule of its own
             if all(each is None or getattr(layer, name) <= max(each) for name, each in words.items())]
    cores = per_chip * case.placement.chips
    if len(found) > cores:  # so has a chip with too few cores
        return
    without = [layer for layer, at in zip(found, assigned(found, words, cores), strict=True) if at < 0]
    if without:
        yield Violation("NC404", without[0].name, "a core for each layer", len(found), len(found) - len(without),
                        "layers", "Choose fewer channels in the largest layers: "
                        + ", ".join(f"'{x.name}' takes {x.kernel_words:,} kernel and {x.neuron_words:,} neuron words"
                                    for x in without))


@rule("NC405", "topology.one_layer_per_core")
def one_convolution(case: Case) -> Iterator[Finding]:
    """One convolution or one matrix stands right in front of each layer of neurons, where a core holds one layer.

    Fix: Join the weights to one layer, or put neurons behind each; pools go behind the neurons.
    """
    entry = case.profile.topology.one_layer_per_core
    for population in case.network.populations if entry is not None and entry.value else ():
        names = weights_into(case.network, population)
        if len(names) > 1:
            yield Violation("NC405", population, "weights into one layer", len(names), 1, "sets of weights",
                            f"Join {', '.join(names)} to one layer, or put neurons behind each")
        elif not names:
            yield Violation("NC405", population, "weights right in front of the neurons", 1, 0, "sets of weights",
                            "Put a convolution or a matrix in front of these neurons, and pools behind them")


def _largest(case: Case, code: str, entry: Entry[int] | None, resource: str, unit: str,
             amount: Callable[[LayerCore], int], fix: str) -> Iterator[Finding]:
    limit, unknown = limit_of(code, entry, resource)
    yield from unknown
    for layer in layer_cores(case.network) if limit is not None else ():
        if limit is not None and amount(layer) > limit:
            yield Violation(code, layer.name, resource, amount(layer), limit, unit, fix)


@rule("NC406", "core.channels_max")
def channels(case: Case) -> Iterator[Finding]:
    """A layer has no more channels, in or out, than a core counts.

    Fix: Choose fewer channels.
    """
    yield from _largest(case, "NC406", case.profile.core.channels_max, "channels", "channels",
                        lambda layer: max(layer.channels), "Choose fewer channels")


@rule("NC407", "core.kernel_size_max")
def kernel_size(case: Case) -> Iterator[Finding]:
    """A kernel is no higher and no wider than a core computes; a matrix counts as a kernel over its whole input.

    Fix: Choose a smaller kernel, or pool before this layer.
    """
    yield from _largest(case, "NC407", case.profile.core.kernel_size_max, "height and width of the kernel", "taps",
                        lambda layer: max(layer.kernel), "Choose a smaller kernel, or pool before this layer")


@rule("NC408", "core.padding_max")
def padding(case: Case) -> Iterator[Finding]:
    """A convolution is padded by no more than a core can.

    Fix: Choose less padding.
    """
    yield from _largest(case, "NC408", case.profile.core.padding_max, "padding", "pixels",
                        lambda layer: max(layer.padding), "Choose less padding")


@rule("NC409", "core.map_side_max")
def map_side(case: Case) -> Iterator[Finding]:
    """The neurons of a layer lie in an image no higher and no wider than a core puts out.

    Fix: Pool before this layer, or choose a stride.
    """
    yield from _largest(case, "NC409", case.profile.core.map_side_max, "height and width of a layer", "pixels",
                        lambda layer: max(layer.out), "Pool before this layer, or choose a stride")


def _listed(code: str, entry: Entry[list[int]] | None, resource: str, sizes: dict[str, set[int]]) -> Iterator[Finding]:
    """One violation for each node with a size that the profile does not list."""
    if entry is None:
        return
    if entry.value is None:
        yield Unchecked(code, resource, entry.source)
        return
    for name, found in sizes.items():
        for size in sorted(found - set(entry.value)):
            below = max((n for n in entry.value if n < size), default=min(entry.value))
            yield Violation(code, name, resource, size, below, entry.unit or "",
                            f"Use one of {', '.join(map(str, entry.value))}")


@rule("NC410", "core.strides")
def strides(case: Case) -> Iterator[Finding]:
    """A convolution moves by a stride that a core has.

    Fix: Use one of the strides that the message lists.
    """
    yield from _listed("NC410", case.profile.core.strides, "stride",
                       {layer.name: set(layer.stride) for layer in layer_cores(case.network)})


@rule("NC411", "core.pools")
def pools(case: Case) -> Iterator[Finding]:
    """Pooling joins squares of a size that a core has, side by side.

    Fix: Use one of the sizes that the message lists.
    """
    nodes = {name: node for name, node in case.network.nodes.items() if isinstance(node, Pool)}
    yield from _listed("NC411", case.profile.core.pools, "size of a pool",
                       {name: {*node.kernel_size, *node.stride} for name, node in nodes.items()})


@rule("NC412", "core.targets_per_layer")
def targets(case: Case) -> Iterator[Finding]:
    """A layer sends to no more layers than a core can.

    Fix: Send to fewer layers.
    """
    limit, unknown = limit_of("NC412", case.profile.core.targets_per_layer, "layers that a layer sends to")
    yield from unknown
    sent: dict[str, set[str]] = {}
    for c in case.connections:
        if c.source != case.network.input:
            sent.setdefault(c.source, set()).add(c.target)
    for name, heard in sent.items():
        if limit is not None and len(heard) > limit:
            yield Violation("NC412", name, "layers that a layer sends to", len(heard), limit, "layers",
                            f"Send to fewer than {', '.join(sorted(heard))}")
