"""Hessians of layers, side by side in one run: before, with time steps thinned, and now, with all of them.

    python -m benchmarks.hessian [--repeats N]

One batch of random spikes, as large as the simulator runs at once in VGG16 (4 time steps) and in the CNN for N-MNIST
(300). Prints for each layer
    before      every k-th time step's patches, so many that 20,000 rows suffice, and one product
    now         as it is done: "offsets": one product of channels for each offset between taps; "windows", all or drawn
    ratio       before / now, the median over the repeats, which alternate
    rows        the share of all rows (samples x time steps x windows) that count, before and now
    error       relative Frobenius error to double precision over all rows, before and now
Seconds are the processor's, on one thread, so that other programs matter little.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import process_time

import numpy as np
import torch

from neurocompress.compression.maths.hessian import ROWS_MAX, Given, Hessian, patches, windows_of
from neurocompress.network.nodes import Conv

#: Name, channels, height and width, kernel, stride, time steps, batch.
LAYERS = (
    ("VGG16, 3 at 32 x 32", 3, 32, 3, 1, 4, 32),
    ("VGG16, 64 at 32 x 32", 64, 32, 3, 1, 4, 32),
    ("VGG16, 64 at 16 x 16", 64, 16, 3, 1, 4, 32),
    ("VGG16, 128 at 16 x 16", 128, 16, 3, 1, 4, 32),
    ("VGG16, 128 at 8 x 8", 128, 8, 3, 1, 4, 32),
    ("VGG16, 256 at 8 x 8", 256, 8, 3, 1, 4, 32),
    ("VGG16, 512 at 4 x 4", 512, 4, 3, 1, 4, 32),
    ("VGG16, 512 at 2 x 2", 512, 2, 3, 1, 4, 32),
    ("N-MNIST, 2 at 34 x 34, stride 2", 2, 34, 5, 2, 300, 6),
    ("N-MNIST, 16 at 16 x 16", 16, 16, 3, 1, 300, 6),
    ("N-MNIST, 16 at 8 x 8", 16, 8, 3, 1, 300, 6),
    ("stride 2, 64 at 16 x 16", 64, 16, 3, 2, 4, 64),
    ("depthwise, 64 at 16 x 16", 64, 16, 3, 1, 4, 32),
)


def before(x: torch.Tensor, conv: Conv, windows: int) -> tuple[torch.Tensor, float]:
    """H of every k-th time step, and the share of the rows that it has."""
    every = max(1, -(-x.shape[0] * x.shape[1] * windows // ROWS_MAX))
    kept = x[every - 1 :: every] if every <= len(x) else x[-1:]
    rows = patches(kept.flatten(0, 1), conv)
    rows = rows.reshape(len(rows), conv.groups, -1).transpose(0, 1)
    return torch.stack([(2 / len(part)) * (part.T @ part).to(torch.float64) for part in rows]), len(kept) / len(x)


def now(x: torch.Tensor, conv: Conv) -> Hessian:
    hessian = Hessian(int(np.prod(conv.weight.shape[1:])), conv.groups)
    hessian.add([Given(x, conv)])
    hessian.mean()
    return hessian


def whole(x: torch.Tensor, conv: Conv) -> torch.Tensor:
    """H of all rows in double precision, a few samples at a time."""
    total: torch.Tensor | float = 0.0
    rows = 0
    for part in x.flatten(0, 1).split(64):
        found = patches(part.to(torch.float64), conv)
        found = found.reshape(len(found), conv.groups, -1).transpose(0, 1)
        total = total + found.transpose(1, 2) @ found
        rows += found.shape[1]
    assert isinstance(total, torch.Tensor)
    return total * (2 / rows)


def seconds(call: object, *arguments: object) -> float:
    began = process_time()
    call(*arguments)  # type: ignore[operator]
    return process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Hessians of layers, before and now.")
    parser.add_argument("--repeats", type=int, default=5, help="of each, in turns [5]")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{'layer':34}{'before':>8}{'now':>8} {'way':8}{'ratio':>7}{'rows':>14}{'error':>19}")
    for name, channels, size, kernel, stride, steps, batch in LAYERS:
        groups = channels if name.startswith("depthwise") else 1
        conv = Conv(np.zeros((groups, channels // groups, kernel, kernel)), None, (stride,) * 2, ((1, 1),) * 2, (1, 1),
                    groups)
        generator = torch.Generator().manual_seed(0)
        spikes = (torch.rand((steps, batch, channels, size, size), generator=generator) < 0.2).float()
        x = spikes.cumsum(0) / torch.arange(1, steps + 1).reshape(-1, 1, 1, 1, 1)  # correlated in time, like M X
        windows = int(np.prod(windows_of(Given(x, conv))))
        old, share = before(x, conv, windows)
        hessian = now(x, conv)
        taken = [(seconds(before, x, conv, windows), seconds(now, x, conv)) for _ in range(repeats)]
        way = "offsets" if hessian.cells else "windows"
        counted = 1.0 if hessian.cells else min(1.0, max(1, ROWS_MAX // (steps * batch)) / windows)
        true = whole(x, conv)
        errors = [float(torch.linalg.norm(h - true) / torch.linalg.norm(true)) for h in (old, hessian.mean())]
        print(f"{name:34}{median(a for a, _ in taken):7.3f}s{median(b for _, b in taken):7.3f}s {way:8}"
              f"{median(a / b for a, b in taken):6.2f}x{share:7.0%}{counted:7.0%}"
              f"{errors[0]:10.1e}{errors[1]:9.1e}", flush=True)


if __name__ == "__main__":
    main()
