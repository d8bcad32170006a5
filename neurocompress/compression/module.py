"""Modules: the weights into one population, as one matrix (the Linear -> LIF modules of SBC, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..network.discrete import hears
from ..network.nodes import Array, Conv, Shape
from .maths.hessian import Bias


@dataclass(frozen=True, eq=False)
class Part:
    """One layer as the model has it. shape: of its weight. bias: (rows,) in the model's units, or None. conv: its
    geometry, None of a Linear layer. windows: places at which it computes its rows, 1 of a Linear layer."""

    shape: Shape
    bias: Array | None
    conv: Conv | None
    windows: int


@dataclass(frozen=True, eq=False)
class Module:
    """Layers side by side: rows are neurons or channels of the population, columns the inputs of all layers.

    group: layers that share the Hessian; layers: those of them that are compressed, whose inputs are `columns` of it.
    parts: by layer of the group.

    weight: (rows, d) float64 in threshold units (see on_chip.units). groups: of a convolution; every group has
    rows / groups rows and a Hessian of its own. bias: (rows,) likewise, or None where no layer has one.
    gains: by layer, thresholds per unit of input for each row, float64 (rows,). importance: (rows,) what a row's error
    means to the layers behind it, of mean 1.
    """

    group: tuple[str, ...]
    layers: tuple[str, ...]
    parts: dict[str, Part]
    columns: Tensor
    widths: tuple[int, ...]
    weight: Tensor
    groups: int
    bias: Array | None
    gains: dict[str, Array]
    importance: Tensor

    @property
    def inputs(self) -> int:
        """Inputs of one row of all layers of the group: its Hessian's columns."""
        return sum(int(np.prod(part.shape[1:])) for part in self.parts.values())

    @property
    def hears(self) -> np.ndarray:
        """(rows,) bool, whether the row's weights move any membrane: not where r or w_in of its neurons is 0."""
        return hears(self.gains[self.layers[0]])

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """A (rows, d) matrix by layer."""
        return dict(zip(self.layers, torch.split(matrix, list(self.widths), dim=1), strict=True))

    def of_hessian(self, matrix: Tensor) -> Tensor:
        """The part of the group's (groups, d, d) matrix that is of these layers."""
        if len(self.columns) == matrix.shape[1]:
            return matrix
        return matrix[:, self.columns][:, :, self.columns]

    def of_bias(self, bias: Bias) -> Bias:
        return Bias(bias.drive[:, self.columns], bias.unit)

    def join(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.cat([parts[name] for name in self.layers], dim=1)

    @property
    def rows(self) -> list[slice]:
        """Rows of each group."""
        size = len(self.weight) // self.groups
        return [slice(g * size, (g + 1) * size) for g in range(self.groups)]
