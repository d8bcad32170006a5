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

from ..network.graph import Network
from .calibrate import calibrate
from .hessian import Bias, centred
from .module import Module

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
    network: Network, original: Network, modules: list[Module], spikes: np.ndarray, membrane: bool, corrected: bool,
    device: str = "cpu",
) -> dict[tuple[str, ...], Followed]:
    """What each module receives behind the compressed layers of `network`, and the weights that suit it.

    spikes: calibration data (samples, timesteps, *input shape). corrected: biases, where there are any, are free.
    """
    held = np.zeros(len(spikes), dtype=bool)
    held[HELD_OUT - 1 :: HELD_OUT] = True
    groups = [m.group for m in modules]
    parts = [calibrate(network, part, membrane=membrane, groups=groups, reference=original, device=device)
             for part in (spikes[~held], spikes[held]) if len(part)]
    share = [part.samples / len(spikes) for part in parts]
    found = {}
    for module in modules:
        hessians, crossed = [module.of_hessian(p.hessians[module.group]) for p in parts], []
        for part in parts:
            assert part.crossed is not None
            crossed.append(module.of_hessian(part.crossed[module.group]))
        hessian, cross = _mean(share, hessians), _mean(share, crossed)
        biases = None
        if corrected and module.bias is not None:
            before = [module.of_bias(p.crossed_biases[module.group]) for p in parts]
            after = [module.of_bias(p.biases[module.group]) for p in parts]
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
