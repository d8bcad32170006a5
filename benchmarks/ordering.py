"""The ways to a support, side by side in one run: seconds, errors and memory.

    python benchmarks/ordering.py [--inputs D ...] [--rows N] [--sparsity S] [--large]

Drawn layers of N outputs and D inputs (correlated spikes through a leaky filter). For each D prints
    script      OBS as its published script does it: rows in parallel, one rank-one update of every inverse for each
                weight (Frantar & Alistarh 2022); up to 576 inputs, it is slow
    ordering    ours, one weight at a time (exact) and 32 at a time, in single and double precision
    ADMM        eigendecomposition and iterations
    refit       least squares on the support of the exact ordering
each with its error after the refit at sparsity S, relative to the exact ordering in double precision (where that is
left out, in single precision), and the peak memory of the process so far. --large: 4608 inputs and 512 outputs, the
largest layer of SEW-ResNet152, in single precision. Seconds depend on the load of the machine; ratios less so.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from neurocompress.compression.maths.hessian import damped
from neurocompress.compression.maths.ordering import removal_losses
from neurocompress.compression.maths.support import admm, largest, refit, spectrum

SCRIPT_MAX = 576
#: Inputs up to which the fastest of three runs counts, and double precision is tried.
REPEATED_MAX, DOUBLE_MAX = 600, 2304
LARGE = 4608, 512


class Layer(NamedTuple):
    """weight (rows, d), damped Hessian (d, d) and its inverse, float64."""

    weight: Tensor
    hessian: Tensor
    inverse: Tensor


def drawn(rows: int, d: int, seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    causes = (torch.rand((max(4096, 2 * d), d // 8), generator=generator) < 0.2).float()
    drive = causes @ torch.randn((d // 8, d), generator=generator) / 3
    x = (drive + torch.randn(drive.shape, generator=generator) > 1.0).float()
    for t in range(1, len(x)):
        x[t] += 0.5 * x[t - 1]
    hessian, _ = damped((x.T @ x).double() * (2.0 / len(x)))
    weight = torch.randn((rows, d), generator=generator, dtype=torch.float64)
    return Layer(weight, hessian, torch.linalg.inv(hessian))


def script(weight: Tensor, inverse: Tensor, parallel: int = 32) -> Tensor:
    """Losses (rows, d) of OBS without any gathering of updates."""
    losses = torch.zeros_like(weight)
    for start in range(0, len(weight), parallel):
        w = weight[start : start + parallel].clone()
        rows = torch.arange(len(w))
        h = inverse.expand(len(w), -1, -1).clone()
        gone = torch.zeros_like(w, dtype=torch.bool)
        for _ in range(w.shape[1]):
            diagonal = h.diagonal(dim1=1, dim2=2)
            score = (w.square() / diagonal).masked_fill(gone, torch.inf)
            loss, p = score.min(1)
            losses[start + rows, p] = loss
            row, pivot = h[rows, p], diagonal[rows, p]
            w -= row * (w[rows, p] / pivot)[:, None]
            gone[rows, p] = True
            w[gone] = 0.0
            row = row / pivot.sqrt()[:, None]
            h -= row[:, :, None] * row[:, None, :]
            h[rows, p, p] = 1.0  # never chosen again, never divided by zero
    return losses


def timed(run: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    taken = []
    for _ in range(repeats):
        began = perf_counter()
        found = run()
        taken.append(perf_counter() - began)
    return found, min(taken)


def gibibytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def compare(rows: int, d: int, sparsity: float) -> None:
    layer, keep = drawn(rows, d), round((1 - sparsity) * rows * d)
    w, single = layer.weight, layer.inverse.float()
    repeats = 3 if d <= REPEATED_MAX else 1
    ways: dict[str, Callable[[], Tensor]] = {}
    for precision, inverse in (("double", layer.inverse), ("single", single)):
        if precision == "single" or d <= DOUBLE_MAX:
            ways |= {f"ordering, {n} at a time, {precision}":
                     lambda inverse=inverse, n=n: removal_losses(w, inverse, block_in=n) for n in (1, 32)}
    if d <= SCRIPT_MAX:
        ways["script, single"] = lambda: script(w.float(), single)
    ways["ADMM"] = lambda: admm(w, spectrum(layer.hessian), (d,), (keep,)).double()

    print(f"\n{d} inputs, {rows} outputs, {100 * sparsity:g} % pruned   (load {os.getloadavg()[0]:.1f})")
    print(f"{'':36} {'seconds':>9} {'relative':>9} {'error':>9} {'peak GiB':>9}")
    base: tuple[float, float] | None = None
    for name, run in ways.items():
        found, seconds = timed(run, 1 if name.startswith("script") else repeats)
        began = perf_counter()
        mask = largest(found, keep)
        change = w - refit(w, layer.hessian, mask)
        refitted = perf_counter() - began
        error = float(((change @ layer.hessian) * change).sum())
        base = base or (seconds, error)
        row(name, seconds, base[0], f"{error / base[1]:.4f}")
        if name.endswith("1 at a time, single"):
            row("refit", refitted, base[0])


def row(name: str, seconds: float, base: float, error: str = "") -> None:
    print(f"{name:36} {seconds:9.2f} {seconds / base:9.2f} {error:>9} {gibibytes():9.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, error and memory of the ways to a support.")
    parser.add_argument("--inputs", type=int, nargs="+", default=[576, 1152, 2304], help="[576 1152 2304]")
    parser.add_argument("--rows", type=int, help="outputs [64; 512 with --large]")
    parser.add_argument("--sparsity", type=float, default=0.9, help="[0.9]")
    parser.add_argument("--large", action="store_true", help="only 4608 inputs and 512 outputs")
    options = parser.parse_args()
    for d in [LARGE[0]] if options.large else options.inputs:
        compare(options.rows or (LARGE[1] if options.large else 64), d, options.sparsity)


if __name__ == "__main__":
    main()
