"""The nodes of a network: frozen dataclasses over numpy arrays, without time steps.

Shapes carry no batch and no time axis. Images are (channels, height, width), as in PyTorch and NIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..shown import brief

Array = NDArray[np.floating]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Input:
    shape: Shape


@dataclass(frozen=True, eq=False)
class Output:
    shape: Shape | None = None


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x + b. weight (n_out, n_in), bias (n_out,) or None."""

    weight: Array
    bias: Array | None = None

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation over the last one or two axes, as PyTorch's conv1d and conv2d.

    weight (c_out, c_in / groups, *kernel); bias (c_out,) or None; stride and dilation hold one number per
    spatial axis, padding one (before, after) pair per spatial axis.
    """

    weight: Array
    bias: Array | None
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int = 1

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Pool:
    """Sum or average over windows of a (c, h, w) signal; padding counts in the average."""

    kind: Literal["sum", "average"]
    kernel_size: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Flatten:
    start_dim: int = 0
    end_dim: int = -1


@dataclass(frozen=True, eq=False)
class Scale:
    """y = scale * x, element by element; scale broadcasts against the signal's shape."""

    scale: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Threshold:
    """y = 1 where x > threshold, else 0: no memory and no reset."""

    threshold: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Delay:
    """y(t) = x(t - delay), delay in seconds, one for each element."""

    delay: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Neuron:
    """Any of NIR's six neurons; which one follows from the parameters that are there.

    v' = r I (I, IF), or tau_mem v' = (v_leak - v) + r I (LI, LIF); with tau_syn the input passes
    tau_syn I' = -I + w_in S first (CubaLI, CubaLIF). With v_threshold it spikes and resets (IF, LIF, CubaLIF).
    All parameters are arrays that broadcast to `shape`; times are in seconds.
    """

    shape: Shape
    r: Array
    v_threshold: Array | None = None
    v_reset: Array | None = None
    tau_mem: Array | None = None
    v_leak: Array | None = None
    tau_syn: Array | None = None
    w_in: Array | None = None

    __repr__ = brief

    @property
    def spiking(self) -> bool:
        return self.v_threshold is not None

    @property
    def time_constants(self) -> list[Array]:
        """tau_mem and tau_syn, those that there are, in seconds."""
        return [tau for tau in (self.tau_mem, self.tau_syn) if tau is not None]

    @property
    def kind(self) -> str:
        """NIR's name of this neuron: I, IF, LI, LIF, CubaLI or CubaLIF."""
        name = ("Cuba" if self.tau_syn is not None else "") + ("L" if self.tau_mem is not None else "")
        return name + ("IF" if self.spiking else "I")


Node = Input | Output | Linear | Conv | Pool | Flatten | Scale | Threshold | Delay | Neuron

#: Nodes that hold weights that compression may change.
WEIGHTED = (Linear, Conv)


def parameters(node: Node) -> int:
    """Number of trained numbers in a node: weights and biases."""
    if isinstance(node, (Linear, Conv)):
        return node.weight.size + (0 if node.bias is None else node.bias.size)
    if isinstance(node, Scale):
        return node.scale.size
    return 0
