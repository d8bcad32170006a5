"""What a node is given: the sum of what its inputs send, each as late as its edge delivers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ..network.graph import SOURCES, Network
from .stateless import operation
from .timing import lag_of, silent_steps


def arriving(
    network: Network, name: str, signals: Mapping[str, Tensor], rest: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The sum over the inputs of a node, (timesteps, batch, *shape of its input), in the dtype of the signals.

    signals: of each of its inputs, (timesteps, batch, *shape). rest: of each of its inputs, see `resting`; computed
    where it is missing and an edge is late. A node of one input that comes at once is given that very tensor.
    """
    total: Tensor | None = None
    for source in network.inputs_of(name):
        part = _shifted(network, source, name, signals[source], rest)
        total = part if total is None else total + part
    if total is None:
        raise ValueError(f"node '{name}' has no input")
    return total


def before_start(network: Network, source: str, target: str, rest: Mapping[str, Tensor]) -> Tensor:
    """What an edge delivers before its source has computed anything, of the source's shape."""
    return torch.zeros_like(rest[source]) if silent_steps(network, source, target) else rest[source]


def resting(
    network: Network, names: Iterable[str], apply: Mapping[str, Callable[[Tensor], Tensor]] | None = None, *,
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """What these nodes (and those they depend on) send while nothing spikes, without batch and time: the biases on
    their way. apply: operations of the nodes, where there are some already."""
    needed = network.needed_for(names, network.populations)
    found: dict[str, Tensor] = {}
    for name in network.order:
        if name not in needed:
            continue
        node, shape = network.nodes[name], network.shapes[name]
        if isinstance(node, SOURCES):
            found[name] = torch.zeros(shape, dtype=dtype, device=device)
            continue
        total = torch.zeros(network.shapes[network.inputs_of(name)[0]], dtype=dtype, device=device)
        for source in network.inputs_of(name):
            if (source, name) not in network.feedback:
                total = total + found[source]
        step = operation(name, node, dtype, torch.device(device), None) if apply is None else apply[name]
        found[name] = step(total[None])[0]
    return found


def _shifted(
    network: Network, source: str, target: str, x: Tensor, rest: Mapping[str, Tensor] | None
) -> Tensor:
    lag = lag_of(network, source, target)
    first = min(len(x), max(lag, silent_steps(network, source, target)))
    if first == 0:
        return x
    if rest is None or source not in rest:
        rest = resting(network, (source,), dtype=x.dtype, device=x.device)
    head = before_start(network, source, target, rest).expand(first, *x.shape[1:])
    return torch.cat([head, x[first - lag : len(x) - lag]]) if first < len(x) else head
