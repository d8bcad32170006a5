"""A convolution as the synapses that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .nodes import Shape
from .shapes import windows

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, eq=False)
class Kernel:
    """Geometry of a convolution: everything but its weights. Shapes are (channels, height, width)."""

    input_shape: Shape
    output_shape: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int = 1

    @staticmethod
    def of(input_shape: Shape, weight_shape: Shape, stride: Shape, padding: tuple[tuple[int, int], ...],
           dilation: Shape, groups: int) -> Kernel:
        spatial = tuple(
            windows(n, k, s, p, d)
            for n, k, s, p, d in zip(input_shape[1:], weight_shape[2:], stride, padding, dilation, strict=True)
        )
        return Kernel(input_shape, (weight_shape[0], *spatial), stride, padding, dilation, groups)

    def taps(self, weight_shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every synapse the convolution stands for: (target, source, index into weight.ravel()), int64 arrays.

        Targets and sources count neurons in row-major (channels, height, width) order; padding has no synapse.
        """
        c_out, c_group, *kernel = weight_shape
        per_group = c_out // self.groups
        axes = [np.arange(c_out), np.arange(c_group)]
        axes += [np.arange(n) for n in self.output_shape[1:]] + [np.arange(k) for k in kernel]
        o, i, *rest = np.meshgrid(*axes, indexing="ij", sparse=True)
        n = len(kernel)
        places, offsets = rest[:n], rest[n:]
        at = [
            p * s - pad[0] + k * d
            for p, k, s, pad, d in zip(places, offsets, self.stride, self.padding, self.dilation, strict=True)
        ]
        full = np.broadcast_shapes(o.shape, i.shape, *(a.shape for a in at))
        inside = np.ones(full, dtype=bool)
        for a, size in zip(at, self.input_shape[1:], strict=True):
            inside &= (a >= 0) & (a < size)
        source_channel = (o // per_group) * c_group + i

        def index(coordinates: list[np.ndarray], shape: Shape) -> np.ndarray:
            total: np.ndarray = np.zeros((), dtype=np.int64)
            for c, size in zip(coordinates, shape, strict=True):
                total = total * size + c
            return np.broadcast_to(total, full)[inside]

        return (
            index([o, *places], self.output_shape),
            index([source_channel, *at], self.input_shape),
            index([o, i, *offsets], weight_shape),
        )

    def matrix(self, weight: np.ndarray) -> sparse.csr_array:
        """The convolution as a (targets, sources) sparse matrix; explicit zeros of the kernel are left out."""
        target, source, tap = self.taps(weight.shape)
        from scipy import sparse

        values = weight.ravel()[tap]
        keep = values != 0
        shape = (int(np.prod(self.output_shape)), int(np.prod(self.input_shape)))
        return sparse.csr_array((values[keep], (target[keep], source[keep])), shape=shape)
