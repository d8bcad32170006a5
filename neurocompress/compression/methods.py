"""Methods: what a name such as "sbc" switches on. A new one is a file that calls `method`; an entry point of the group
"neurocompress.methods" that names the file lets recipes and flags find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Literal

from ..network.grid import Levels

Allocation = Literal["uniform", "lamp", "temporal-lamp", "loss"]

GROUP = "neurocompress.methods"


@dataclass(frozen=True, kw_only=True)
class Method:
    """The switches of a method."""

    #: H_SMP = 2 E[(MX)^T MX] of the inputs filtered as the neuron filters them (SBC, eq. 11); without it H = 2 E[X^T X]
    #: (OBC, GPTQ).
    membrane: bool = False
    #: How the weights that stay are chosen: a name of supports.SUPPORTS.
    support: str = "obs"
    #: Weights that stay make up for those that go (least squares on the support, GPTQ on the grid).
    compensate: bool = True
    #: The end of a grid is searched on the layer's loss, and its integers by descent.
    search: bool = False
    #: A layer is fitted to the compressed spikes that it will receive (asymmetric calibration, GPTAQ).
    asymmetric: bool = False
    #: A row's error counts as much as the weights behind it.
    row_weights: bool = False
    #: Rows are scaled so that their neurons fire as often as before (see rates).
    rate_matching: bool = False
    #: Epochs of a pruned network with the original as its teacher, where a recipe names none.
    distill: int = 0
    #: The integers of a grid, where a recipe names none. GPTQ's and the paper's are two's complement.
    levels: Levels = "twos-complement"
    #: How layers share the sparsity, where a recipe names none.
    allocation: Allocation = "lamp"

    @property
    def follows(self) -> bool:
        """Whether it looks at what the compressed layers before a stage send."""
        return self.asymmetric or self.rate_matching


_METHODS: dict[str, Method] = {}


def method(name: str, found: Method) -> None:
    """Registers a method under a name. Raises ValueError where the name is taken by another one."""
    if _METHODS.get(name, found) != found:
        raise ValueError(f"there is a method '{name}' already")
    _METHODS[name] = found


def methods() -> Mapping[str, Method]:
    """All methods by name: ours, and those of installed packages."""
    _load_installed()
    return _METHODS


@cache
def _load_installed() -> None:
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        point.load()


# `exact-obs` and `gptq` are the pruning and the quantization of one method, as are `magnitude` and `rtn`
method("sbc", Method(membrane=True, support="admm", search=True, asymmetric=True, row_weights=True, rate_matching=True,
                     distill=20, levels="symmetric"))
method("sbc-paper", Method(membrane=True))
method("exact-obs", Method())
method("gptq", Method())
method("magnitude", Method(support="magnitude", compensate=False))
method("rtn", Method(support="magnitude", compensate=False))
