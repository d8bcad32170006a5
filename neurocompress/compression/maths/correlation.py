"""H of convolutions of stride 1 without patches: one product of channels for each offset between two kernel positions.

For a tap p of one kernel and a tap q of another (or the same), with windows w, the block of H is
sum_w X[w + p] Y[w + q]^T = sum_y X[y] Y[y + d]^T over the places y = w + p, with the offset d = q - p. All pairs of
taps of one offset share these products and differ only in the borders: the places are cut into cells at every place
where some pair's windows begin or end, each cell is summed once, and a block is the sum of its cells. What is padded is
0 and never multiplied. A 3 x 3 kernel has 81 pairs of taps and, as H is symmetric, 13 offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

from ...network.nodes import Conv

#: In multiplications of a large product: what the call of a product costs, what it costs it to read a number, and what
#: laying out a number for it costs (measured by benchmarks/hessian.py).
CALL, READ, LAYOUT = 200_000, 24, 80


@dataclass(frozen=True)
class Taps:
    """One layer on one axis: offsets, where its taps lie from a window's place; size, places of its input."""

    offsets: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Cells:
    """One axis at one offset. parts: [start, stop) of the left places. pairs: (left tap, right tap, its parts)."""

    parts: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int, tuple[int, ...]], ...]

    @property
    def places(self) -> int:
        return sum(stop - start for start, stop in self.parts)


@dataclass(frozen=True)
class Block:
    """All pairs of taps of one offset of two layers (their places in the group), which may be the same layer."""

    layers: tuple[int, int]
    offset: tuple[int, int]
    axes: tuple[Cells, Cells]

    @property
    def count(self) -> int:
        """Cells of both axes."""
        return len(self.axes[0].parts) * len(self.axes[1].parts)


@dataclass(frozen=True)
class Plan:
    """What to multiply for the layers of a group. channels: of each layer in one group of a convolution; kernels: its
    taps (height, width), height 1 in one dimension; symmetric: H itself, not a cross term."""

    channels: tuple[int, ...]
    kernels: tuple[tuple[int, int], ...]
    taps: tuple[tuple[Taps, Taps], ...]
    windows: tuple[int, int]
    groups: int
    symmetric: bool
    blocks: tuple[Block, ...]

    def work(self, rows: int) -> float:
        """Multiplications for `rows` samples x time steps, what is read and laid out for them counted in."""
        total = 0.0
        for block in self.blocks:
            high, wide = block.axes
            left, right = (self.channels[k] for k in block.layers)
            total += rows * high.places * wide.places * left * (right + READ) + CALL * high.places * len(wide.parts)
        for channels, (high_taps, wide_taps) in zip(self.channels, self.taps, strict=True):
            total += rows * high_taps.size * wide_taps.size * channels * LAYOUT
        return total * self.groups


def plan(convs: Sequence[Conv], sizes: Sequence[tuple[int, ...]], windows: tuple[int, ...], symmetric: bool) -> Plan:
    """convs: of stride 1 and equal groups, that share their windows; sizes: of their inputs, (height, width) or
    (length,)."""
    layers = [tuple(_taps(conv, size)) for conv, size in zip(convs, sizes, strict=True)]
    high, wide = (1, *windows)[-2:]
    blocks = []
    for left, right in product(range(len(convs)), repeat=2):
        if symmetric and right < left:
            continue
        a, b = layers[left], layers[right]
        for offset in product(*(sorted({q - p for p in x.offsets for q in y.offsets})
                                for x, y in zip(a, b, strict=True))):
            if symmetric and left == right and offset < (0, 0):
                continue
            axes = (_cells(a[0], b[0], offset[0], high), _cells(a[1], b[1], offset[1], wide))
            if axes[0].parts and axes[1].parts:
                blocks.append(Block((left, right), (offset[0], offset[1]), axes))
    groups = convs[0].groups
    kernels = [(1, *conv.weight.shape[2:])[-2:] for conv in convs]
    return Plan(tuple(conv.weight.shape[1] for conv in convs), tuple((k[0], k[1]) for k in kernels),
                tuple((t[0], t[1]) for t in layers), (high, wide), groups, symmetric, tuple(blocks))


def _taps(conv: Conv, size: tuple[int, ...]) -> Iterator[Taps]:
    if len(size) == 1:
        yield Taps((0,), 1)
    for k, d, (before, _), n in zip(conv.weight.shape[2:], conv.dilation, conv.padding, size, strict=True):
        yield Taps(tuple(p * d - before for p in range(k)), n)


def _cells(left: Taps, right: Taps, offset: int, windows: int) -> Cells:
    """Where left places y lie in their input, y + offset in the right one, and y in the windows of some pair."""
    ranges = {}
    for p, at in enumerate(left.offsets):
        if at + offset in right.offsets:
            start = max(at, 0, -offset)
            stop = min(at + windows, left.size, right.size - offset)
            ranges[p, right.offsets.index(at + offset)] = start, max(start, stop)
    ends = sorted({end for interval in ranges.values() for end in interval})
    parts = [(a, b) for a, b in pairwise(ends) if any(start <= a and b <= stop for start, stop in ranges.values())]
    return Cells(tuple(parts), tuple(
        (p, q, tuple(k for k, (a, b) in enumerate(parts) if start <= a and b <= stop))
        for (p, q), (start, stop) in ranges.items()))


def places_first(x: Tensor, groups: int) -> Tensor:
    """(timesteps, batch, channels, *spatial) -> (height, width, rows, groups, channels / groups), contiguous."""
    high, wide = (1, *x.shape[3:])[-2:]
    rows, channels = x.shape[0] * x.shape[1], x.shape[2]
    matrix = x.reshape(rows * channels, high * wide).t().contiguous()  # a plain transpose is the fastest copy
    return matrix.reshape(high, wide, rows, groups, channels // groups)


def add_products(how: Plan, sums: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """Adds what the cells of every block are in this batch to sums, see `empty_sums`.

    left, right: each layer's input as `places_first` gives it.
    """
    def one(block: Block, total: Tensor) -> None:
        total += _block(block, left[block.layers[0]], right[block.layers[1]]).to(total)

    _in_threads(one, how.blocks, sums)


def empty_sums(how: Plan) -> list[Tensor]:
    """Zeros for every block: (cells, groups, left channels, right channels), float64."""
    return [torch.zeros((block.count, how.groups, *(how.channels[k] for k in block.layers)), dtype=torch.float64)
            for block in how.blocks]


def _in_threads(one: Callable[[Block, Tensor], None], blocks: Sequence[Block], sums: Sequence[Tensor]) -> None:
    """Shares blocks out among threads, each block on one alone: what there is to do for one is too little to be shared
    out itself, and the bits are those of any number of threads."""
    with ThreadPoolExecutor(torch.get_num_threads(), initializer=lambda: torch.set_num_threads(1)) as pool:
        for _ in pool.map(one, blocks, sums):
            pass


def _block(block: Block, left: Tensor, right: Tensor) -> Tensor:
    groups, channels = left.shape[3:]
    out = left.new_zeros((block.count, groups, channels, right.shape[4]))
    down, along = block.offset
    for k, ((top, bottom), (first, last)) in enumerate(product(block.axes[0].parts, block.axes[1].parts)):
        for y in range(top, bottom):
            a, b = left[y, first:last].flatten(0, 1), right[y + down, first + along : last + along].flatten(0, 1)
            for g in range(groups):
                out[k, g].addmm_(a[:, g].T, b[:, g])
    return out


def assemble(how: Plan, sums: Sequence[Tensor], out: Tensor) -> None:
    """Adds the blocks of H to out (groups, d, d), float64. sums: of each block's cells."""
    sizes = [high * wide for high, wide in how.kernels]
    starts = [sum(c * k for c, k in zip(how.channels[:n], sizes, strict=False)) for n in range(len(sizes))]

    def columns(layer: int, tap: int) -> slice:
        return slice(starts[layer] + tap, starts[layer] + how.channels[layer] * sizes[layer], sizes[layer])

    def one(block: Block, cells: Tensor) -> None:
        left, right = block.layers
        grid = cells.reshape(*(len(axis.parts) for axis in block.axes), *cells.shape[1:])
        for (p1, q1, high), (p2, q2, wide) in product(block.axes[0].pairs, block.axes[1].pairs):
            total = torch.zeros_like(cells[0])
            for y, x in product(high, wide):
                total += grid[y, x]
            rows = columns(left, p1 * how.kernels[left][1] + p2)
            across = columns(right, q1 * how.kernels[right][1] + q2)
            out[:, rows, across] += total
            if how.symmetric and (left != right or block.offset != (0, 0)):
                out[:, across, rows] += total.transpose(1, 2)

    _in_threads(one, how.blocks, sums)


def window_sums(how: Plan, images: Sequence[Tensor]) -> Tensor:
    """Sums over all windows of what each input of the windows is given: (groups, d), float64.

    images: of each layer, (height, width, groups, channels).
    """
    parts = []
    for (high, wide), image in zip(how.taps, images, strict=True):
        taps = []
        for p, q in product(high.offsets, wide.offsets):
            inside = image[max(p, 0) : max(p + how.windows[0], 0), max(q, 0) : max(q + how.windows[1], 0)]
            taps.append(inside.sum(dim=(0, 1), dtype=torch.float64))
        parts.append(torch.stack(taps, dim=2).flatten(1))
    return torch.cat(parts, dim=1)
