"""What a module loses at different sparsities and bits: the ground for allocation by loss."""

from __future__ import annotations

import numpy as np
import torch

from ..maths.allocate import Curve, Option
from ..maths.hessian import damped
from ..maths.prune import prune
from ..maths.quantize import gptq, inverse_factor, layer_error
from ..maths.supports import SUPPORTS, Choosing
from ..module import Module
from ..recipe import Recipe

#: Shares of a module's weights at which its loss is measured; between them it is interpolated.
KEPT_SHARES = (0.5, 0.3, 0.18, 0.1, 0.06, 0.035, 0.02, 0.012, 0.007)


def loss_curves(module: Module, hessian: torch.Tensor, recipe: Recipe, memory: int) -> Curve:
    """Loss of a module at KEPT_SHARES of its weights, with the recipe's own way to prune."""
    rows, d = module.weight.shape
    keep, loss = [rows * d], [0.0]
    layers = {n: [rows * w] for n, w in zip(module.layers, module.widths, strict=True)}
    support = recipe.support or recipe.how.support
    how = Choosing(recipe.block_in, recipe.damping, memory)
    known = SUPPORTS[support](module.weight, hessian, how)
    for share in KEPT_SHARES:
        count = max(1, round(share * rows * d))
        pruned = prune(module.weight, hessian, (d,), (count,), support=support, importance=module.importance, how=how,
                       known=known)
        keep.append(count)
        loss.append(_loss(module, pruned.weight, hessian))
        for name, mask in module.split(pruned.mask).items():
            layers[name].append(int(mask.sum()))
    return Curve(np.array(keep, dtype=np.float64), np.maximum.accumulate(loss),
                 {n: np.array(k, dtype=np.float64) for n, k in layers.items()})


def options(
    module: Module, curve: Curve, hessian: torch.Tensor, recipe: Recipe
) -> tuple[list[Option], list[tuple[int, int]]]:
    """Ways to store a module, and for each its (bits, weights that stay): every `budget_bits` at every point of the
    curve.

    Bytes: the weights that stay at their bits, and where some are zero one bit of each weight that says which, or all
    weights dense, whichever is less. Loss: that of the pruning plus the quantization loss of the dense module times the
    share of weights that stay (an estimate; both are measured with the module's own Hessian).
    """
    found, what = [], []
    size = module.weight.numel()
    for bits in recipe.budget_bits:
        rounding = rounding_loss(module, hessian, recipe, bits)
        for keep, loss in zip(curve.keep, curve.loss, strict=True):
            dense, sparse = size * bits, keep * bits + size
            stored = dense if keep == size else min(dense, sparse)
            found.append(Option(int(np.ceil(stored / 8)), float(loss + rounding * keep / size)))
            what.append((bits, int(keep)))
    return found, what


def rounding_loss(module: Module, hessian: torch.Tensor, recipe: Recipe, bits: int) -> float:
    """What GPTQ to so many bits costs the dense module, in the unit of `Curve.loss`."""
    scheme = recipe.scheme(bits)
    quantized = torch.empty_like(module.weight)
    whole = float(module.weight.abs().max())
    for rows, h in zip(module.rows, hessian, strict=True):
        part = module.weight[rows].numpy()
        largest = np.abs(part).max(axis=1, keepdims=True)
        if recipe.grid.scale != "per-channel":
            largest = np.full_like(largest, whole)
        grid = scheme.grid(scheme.steps(np.where(largest > 0, largest, 1.0)))
        m = gptq(part, h, grid, None, inverse_factor(damped(h, recipe.damping)[0]))
        quantized[rows] = torch.from_numpy(grid.value(m))
    return _loss(module, quantized, hessian)


def whole_loss(module: Module, hessian: torch.Tensor) -> float:
    """What the module would lose without any weight, in the unit of `Curve.loss`."""
    return _loss(module, torch.zeros_like(module.weight), hessian)


def _loss(module: Module, weight: torch.Tensor, hessian: torch.Tensor) -> float:
    error = np.concatenate([
        layer_error(module.weight[rows].numpy(), weight[rows].numpy(), h)
        for rows, h in zip(module.rows, hessian, strict=True)])
    return float(np.mean(error * module.importance.numpy()))
