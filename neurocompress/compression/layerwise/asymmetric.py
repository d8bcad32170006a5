"""Following: a layer fitted to the compressed spikes that it will receive (asymmetric calibration).

With X the inputs before compression and X' those that the compressed layers before send, the weights Q that come
closest to the original potentials minimize E|M(W X - Q X')|^2 + s |Q - W|^2 (the target of GPTAQ and Qronos, here
with the neuron's filter M). Few samples make this an overfit, so the shrinkage s is chosen on samples that were held
out, and the layer follows only if that loses less there than leaving W as the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...network.discrete import Step
from ..maths.hessian import Bias, Hessian, centred
from ..model import Stage, Stream
from ..module import Module
from .calibrate import constant, given

#: Shrinkage towards the original weights, as a share of the mean of the Hessian's diagonal.
SHRINKAGE = (0.01, 0.1, 1.0, 10.0)
#: One sample in so many is held out.
HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Followed:
    """hessian: of the compressed inputs, (groups, d, d). target: weights (rows, d) to reach. shrinkage: the one
    chosen; None where the original weights stay the target. biases: of the inputs before and after compression, where
    biases are corrected; the Hessian is centred then."""

    hessian: Tensor
    target: Tensor
    shrinkage: float | None
    biases: tuple[Bias, Bias] | None


def follow(
    stage: Stage, original: Stream, compressed: Stream, samples: int, membrane: bool, corrected: bool,
) -> dict[tuple[str, ...], Followed]:
    """What each module receives behind the compressed layers, and the weights that suit it.

    samples: of the calibration data. corrected: biases, where there are any, are free.
    """
    held = np.zeros(samples, dtype=bool)
    held[HELD_OUT - 1 :: HELD_OUT] = True
    step = stage.step if membrane else None
    parts = [_compared(stage, original, compressed, np.flatnonzero(part), step) for part in (~held, held) if part.any()]
    share = [part.samples / samples for part in parts]
    found = {}
    for module in stage.modules:
        hessians = [module.of_hessian(p.own[module.group].mean()) for p in parts]
        crossed = [module.of_hessian(p.crossed[module.group].mean()) for p in parts]
        hessian, cross = _mean(share, hessians), _mean(share, crossed)
        biases = None
        if corrected and module.bias is not None:
            before = [module.of_bias(p.crossed[module.group].bias()) for p in parts]
            after = [module.of_bias(p.own[module.group].bias()) for p in parts]
            biases = _mean_bias(share, before), _mean_bias(share, after)
            hessians = [centred(h, k, k) for h, k in zip(hessians, after, strict=True)]
            crossed = [centred(c, b, k) for c, b, k in zip(crossed, before, after, strict=True)]
            hessian, cross = centred(hessian, biases[1], biases[1]), centred(cross, *biases)
        chosen = None
        if len(parts) == 2:
            lost = {s: _loss(module, _target(module, hessians[0], crossed[0], s), hessians[1], crossed[1])
                    for s in SHRINKAGE}
            best = min(lost, key=lambda s: lost[s])
            chosen = best if lost[best] < _loss(module, module.weight, hessians[1], crossed[1]) else None
        target = module.weight if chosen is None else _target(module, hessian, cross, chosen)
        found[module.layers] = Followed(hessian, target, chosen, biases)
    return found


@dataclass(frozen=True, eq=False)
class _Compared:
    """own: by group, 2 E[(MX')^T MX'] of the inputs behind the compressed layers; crossed: 2 E[(MX)^T MX']."""

    own: dict[tuple[str, ...], Hessian]
    crossed: dict[tuple[str, ...], Hessian]
    samples: int


def _compared(
    stage: Stage, original: Stream, compressed: Stream, samples: np.ndarray, step: Step | None
) -> _Compared:
    own = {m.group: Hessian(m.inputs, m.groups) for m in stage.modules}
    crossed = {m.group: Hessian(m.inputs, m.groups) for m in stage.modules}
    for before, after in zip(original.inputs(stage, samples), compressed.inputs(stage, samples), strict=True):
        for module in stage.modules:
            x, x_after = (given(module, batch.inputs, step) for batch in (before, after))
            one = constant(x, step)
            own[module.group].add(x_after, first=before.first, constant=one)
            crossed[module.group].add(x, x_after, first=before.first, constant=one)
    return _Compared(own, crossed, len(samples))


def _mean(share: list[float], parts: list[Tensor]) -> Tensor:
    return sum((s * p for s, p in zip(share, parts, strict=True)), torch.zeros_like(parts[0]))


def _mean_bias(share: list[float], parts: list[Bias]) -> Bias:
    return Bias(_mean(share, [p.drive for p in parts]), sum(s * p.unit for s, p in zip(share, parts, strict=True)))


def _target(module: Module, hessian: Tensor, crossed: Tensor, shrinkage: float) -> Tensor:
    parts = []
    for rows, h, c in zip(module.rows, hessian, crossed, strict=True):
        added = shrinkage * (float(h.diagonal().mean()) or 1.0)
        damped = h + added * torch.eye(len(h), dtype=h.dtype)
        w = module.weight[rows]
        parts.append(torch.linalg.solve(damped, (w @ c + added * w).T).T)
    return torch.cat(parts)


def _loss(module: Module, weight: Tensor, hessian: Tensor, crossed: Tensor) -> float:
    """E|M(W X - Q X')|^2 of the weights Q, less what does not depend on them."""
    total = 0.0
    for rows, h, c in zip(module.rows, hessian, crossed, strict=True):
        q, w = weight[rows], module.weight[rows]
        total += float((q @ h * q).sum() - 2 * (w @ c * q).sum())
    return total
