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
    """Where the network is given its data."""

    #: Of what one sample is in one time step.
    shape: Shape


@dataclass(frozen=True, eq=False)
class Output:
    """What is read of the network: the sum of all that leads here."""

    #: None: that of what leads here.
    shape: Shape | None = None


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x + b."""

    #: W, (n_out, n_in).
    weight: Array
    #: b, (n_out,); None without one.
    bias: Array | None = None

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation over the last one or two axes, as PyTorch's conv1d and conv2d."""

    #: (c_out, c_in / groups, *kernel).
    weight: Array
    #: (c_out,); None without one.
    bias: Array | None
    #: Steps from window to window, one number for each spatial axis.
    stride: Shape
    #: Zeros (before, after) each spatial axis.
    padding: tuple[tuple[int, int], ...]
    #: Steps from tap to tap, one number for each spatial axis.
    dilation: Shape
    #: Parts that the channels fall into, each convolved by itself.
    groups: int = 1

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Pool:
    """Sum or average over windows of a (c, h, w) signal."""

    #: What is put out of a window; padding counts in the average.
    kind: Literal["sum", "average"]
    #: Height and width of a window.
    kernel_size: Shape
    #: Steps from window to window, one number for each spatial axis.
    stride: Shape
    #: Zeros (before, after) each spatial axis.
    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Flatten:
    """Joins axes of a signal to one, as PyTorch's flatten; without a batch axis, the first one is 0."""

    #: First axis that is joined.
    start_dim: int = 0
    #: Last axis that is joined; negative ones count from the end.
    end_dim: int = -1


@dataclass(frozen=True, eq=False)
class Scale:
    """y = scale * x, element by element."""

    #: Broadcasts against the signal's shape.
    scale: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Threshold:
    """y = 1 where x > threshold, else 0: no memory and no reset."""

    #: Broadcasts against the signal's shape.
    threshold: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Delay:
    """y(t) = x(t - delay)."""

    #: Seconds, one for each element.
    delay: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Neuron:
    """Any of NIR's six neurons; which one follows from the parameters that are there.

    v' = r I (I, IF), or tau_mem v' = (v_leak - v) + r I (LI, LIF); with tau_syn the input passes
    tau_syn I' = -I + w_in S first (CubaLI, CubaLIF). With v_threshold it spikes and resets (IF, LIF, CubaLIF).
    All parameters are arrays that broadcast to `shape`; None where the neuron has none.
    """

    #: Of the population, without batch and time.
    shape: Shape
    #: Membrane resistance: what a current is multiplied by.
    r: Array
    #: Potential at which it spikes; None for a neuron that never does.
    v_threshold: Array | None = None
    #: Potential after a reset to zero.
    v_reset: Array | None = None
    #: Time constant of the membrane in seconds; None for one that does not leak.
    tau_mem: Array | None = None
    #: Potential that the membrane leaks to.
    v_leak: Array | None = None
    #: Time constant of the synapse in seconds; None where input acts on the membrane at once.
    tau_syn: Array | None = None
    #: What the input of the synapse is multiplied by.
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
