"""Events of a sensor that looks at a still image through three saccades, as N-MNIST was recorded.

Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets using saccades": a sensor
moves along a triangle of three saccades of 100 ms before a screen. The numbers below were fitted to 800 recordings of
N-MNIST of known images: where the image lies over time, how often a pixel sends events, how much of them is noise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DURATION_MS = 300.0

#: Where the image's centre is, in pixels right of and below the centre of the sensor: (milliseconds, x, y).
PATH = torch.tensor([
    (0, -2.65, -2.00), (12, -2.65, -1.75), (21, -2.70, -1.20), (33, -2.75, -0.20), (45, -2.70, 1.15),
    (57, -2.10, 2.40), (63, -1.90, 3.00), (75, -1.05, 3.35), (117, -0.85, 3.55), (123, -0.40, 3.30),
    (135, 0.20, 2.85), (147, 1.00, 1.75), (159, 1.65, 0.15), (171, 1.95, -0.90), (183, 2.25, -1.40),
    (195, 2.35, -1.50), (210, 2.80, -1.90), (231, 2.75, -1.75), (237, 2.30, -1.70), (249, 1.15, -1.60),
    (261, 0.00, -1.60), (267, -0.70, -1.65), (279, -1.65, -1.75), (291, -2.05, -1.85), (300, -2.15, -1.90),
], dtype=torch.float64)

THRESHOLD = 0.16  # change of intensity (black 0, white 1) that makes an event
MISMATCH = 0.2  # deviation of the threshold from pixel to pixel, relative
NOISE = 0.03  # deviation of the intensity that a pixel sees at one moment
REFRACTORY_MS = 3.0  # a pixel sends at most one event in this time
#: Events per millisecond and pixel that nothing caused: (channel 0, channel 1).
BACKGROUND = (1.3e-5, 3.7e-4)


def saccade_events(images: Tensor, steps: int, size: int = 34, generator: torch.Generator | None = None) -> Tensor:
    """Events of 300 ms before still images: (n, steps, 2, size, size) uint8, events per step.

    images: (n, height, width) uint8, at most size pixels high and wide; steps: time steps of 300/steps ms each.
    Channel 1 has the pixels that grew darker, as N-MNIST has them for white digits on black. At 100 steps and more
    a pixel has at most one event per step and channel. The same generator state gives the same events.
    """
    n, height, width = images.shape
    margin = int(PATH[:, 1:].abs().max()) + 2  # room for the path, bilinear interpolation and rounding
    top, left = (size - height) // 2 + margin, (size - width) // 2 + margin
    full = size + 2 * margin
    scene = F.pad(images.float() / 255, (left, full - width - left, top, full - height - top))
    scene = F.avg_pool2d(F.avg_pool2d(scene[:, None], 2, 1, padding=1), 2, 1)[:, 0]  # the lens: (1 2 1)/4 each way

    threshold = THRESHOLD * torch.randn(n, size, size, generator=generator).mul_(MISMATCH).exp_()
    most = max(1, round(DURATION_MS / steps / REFRACTORY_MS))
    off, on = (rate * DURATION_MS / steps for rate in BACKGROUND)
    times = torch.linspace(0, DURATION_MS, steps + 1, dtype=torch.float64)
    path = torch.stack([_interpolate(times, *PATH[:, (0, k)].T.contiguous()) for k in (1, 2)], dim=1)

    events = torch.empty(n, steps, 2, size, size, dtype=torch.uint8)
    seen = _shifted(scene, path[0], size, margin).clone()  # the intensity at a pixel's last event
    for step in range(steps):
        now = _shifted(scene, path[step + 1], size, margin)
        change = torch.randn(n, size, size, generator=generator).mul_(NOISE).add_(now).sub_(seen)
        count = change.div_(threshold).trunc_().clamp_(-most, most)
        seen.addcmul_(count, threshold)
        chance = torch.rand(n, size, size, generator=generator)
        events[:, step, 0] = count.clamp(min=0).add_(chance < off)
        events[:, step, 1] = count.neg_().clamp_(min=0).add_(chance > 1 - on)
    return events.clamp_(max=most)


def _shifted(scene: Tensor, offset: Tensor, size: int, margin: int) -> Tensor:
    """The sensor's view (n, size, size) of the scene moved by offset (x, y) in pixels, bilinear."""
    x, y = (margin - float(v) for v in offset)
    column, row = int(x), int(y)
    strip = scene[:, row : row + size + 1, column : column + size + 1]
    wide = torch.lerp(strip[:, :-1], strip[:, 1:], y - row)
    return torch.lerp(wide[:, :, :-1], wide[:, :, 1:], x - column)


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear interpolation of y(x)."""
    k = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    return torch.lerp(y[k - 1], y[k], (at - x[k - 1]) / (x[k] - x[k - 1]))
