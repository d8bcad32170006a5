"""How a population's potentials are counted in stored weights.

All weights into a population are first divided by its thresholds: one unit of input then moves the membrane by
one threshold. In these threshold units a stored weight q with exponent e is worth q 2^e / vth, so the choice of
the threshold mantissa vth and of the exponents fixes the steps of all grids into that population, and the
threshold itself is met exactly. Where states are real numbers any vth is as good as another, and any step is granted.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import refuse
from ...network.grid import Grid
from ...network.nodes import Array
from ..arithmetic import Arithmetic
from ..profile.number_formats import ChipArithmetic
from ..profile.schema import Profile


@dataclass(frozen=True)
class WeightFormat:
    """How a chip stores weights: numbers from its profile.

    bits: stored bits; m_max: largest integer of its grid, which is symmetric; magnitude_bits: bits of a full weight;
    mixed_sign_bits: low bits that mixed signs cost;
    exponent_min, exponent_max: range of the power of two that one connection shares.
    scale: "per-connection"; "per-channel" where each neuron has a threshold of its own; "per-population": one step for
        all weights into a population.
    sign: of stored weights, "mixed", or "beside" where the sign is stored beside the magnitude (or as a pair of rows).
    """

    bits: int
    m_max: int
    magnitude_bits: int
    mixed_sign_bits: int
    exponent_min: int
    exponent_max: int
    scale: str
    sign: str = "mixed"

    @property
    def lsb(self) -> int:
        """Distance of two stored weights: 2 at 8 of 8 bits with mixed signs."""
        return int(2 ** (self.magnitude_bits - self.bits + self.mixed_sign_bits))


def weight_format(profile: Profile, bits: int | None) -> WeightFormat:
    """The chip's weight format at `bits` stored bits (its default when None). Raises `Refused` for other bits."""
    weights = profile.weights
    allowed = weights.bits.value or []
    chosen = weights.default_bits.value if bits is None else bits
    if chosen not in allowed:
        raise refuse(f"{profile.name} stores no weights of {chosen} bits", fix=(
            f"Choose --bits among {', '.join(map(str, allowed))}" if allowed else "Its profile names no weight bits"))
    low, high = (weights.exponent.value if weights.exponent else None) or (0, 0)
    scale = weights.scale.value or "per-connection"
    magnitude = chosen if scale == "per-population" else weights.magnitude_bits.value or chosen
    beside = weights.mixed_range is not None and weights.mixed_range.value == "beside"
    return WeightFormat(
        chosen, (1 << chosen) - 1 if beside else Grid.levels(chosen), magnitude, weights.mixed_sign_bits.value or 0,
        low, high, scale, "beside" if beside else "mixed")


def holds_both_signs(profile: Profile, bits: int) -> bool:
    """Whether weights of so many bits reach as far above 0 as below: one bit of Loihi holds -1 and 0."""
    fmt = weight_format(profile, bits)
    if fmt.sign == "beside" or profile.weights.scale.value == "per-population":
        return True
    return bits > 1 or profile.weights.mixed_sign_bits.value in (0, None)


@dataclass(frozen=True, eq=False)
class Units:
    """vth: threshold mantissa, int64 (float64 where states are real, and of neurons that never spike, whose potentials
    are counted in any unit), () or (rows,). exponents and steps by connection;
    a step is in threshold units, float64, () or (rows,), rows being neurons or channels."""

    vth: np.ndarray
    exponents: dict[str, int]
    steps: dict[str, Array]


def fit_units(
    wanted: dict[str, Array], sizes: dict[str, int], fmt: WeightFormat, arithmetic: ChipArithmetic, most: float,
    fixed: bool = False, lsbs: Mapping[str, int] | None = None, free: bool = False,
) -> Units:
    """Threshold mantissa and exponents whose steps are at least (nearly) the wanted ones, with fine thresholds.

    wanted: step by connection in threshold units, () or (rows,). sizes: weights by connection, to weigh losses.
    most: the largest threshold mantissa (see `Reach.most`). fixed: whether some of the weights are those of pools and
    edges, which no compression brings onto a finer grid. lsbs: distance of two stored weights, of connections whose
    width is another than that of `fmt`. free: of neurons that are read and never spike, which have no threshold to
    meet: any number counts their potential. Where `most`, or the range of exponents, leaves no such steps they are as
    near as there are: coarser ones for weights far below the threshold, and finer ones, whose grid ends below the
    largest weight, for weights far above it.
    """
    lsb = dict.fromkeys(wanted, fmt.lsb) | dict(lsbs or {})
    if fmt.scale == "per-population":
        wanted = dict.fromkeys(wanted, np.asarray(max(float(np.max(step)) for step in wanted.values())))
    if not isinstance(arithmetic, Arithmetic):  # one threshold for all of them, so steps apart by their lsb alone
        vth = functools.reduce(np.minimum, (lsb[name] / step for name, step in wanted.items()))
        return Units(vth, dict.fromkeys(wanted, 0), {name: np.asarray(lsb[name] / vth) for name in wanted})
    limit = most if free else max(1.0, most)
    if fmt.scale == "per-population":  # where registers are narrow, weights take fewer levels
        wanted = {name: np.maximum(step, fmt.lsb / limit) for name, step in wanted.items()}

    def exponents_for(base: str) -> dict[str, int]:
        unit = wanted[base] / lsb[base]
        return {
            name: int(np.ceil(np.log2(np.max(step / (lsb[name] * unit))) - 1e-9)) for name, step in wanted.items()
        }

    def loss(base: str) -> float:
        found = exponents_for(base)
        return sum(sizes[n] * float(np.mean((wanted[base] * (lsb[n] / lsb[base]) * 2.0 ** e) ** 2))
                   for n, e in found.items())

    base = min(wanted, key=loss)
    exponents = exponents_for(base)
    lowest = max(min(exponents.values()), max(exponents.values()) - (fmt.exponent_max - fmt.exponent_min))
    unit = wanted[base] / lsb[base] * 2.0**lowest
    exponents = {name: max(0, e - lowest) for name, e in exponents.items()}  # too far apart: coarser
    highest = fmt.exponent_max - max(exponents.values())
    below = [s for s in range(fmt.exponent_min, highest + 1) if np.max(2.0**s / unit) <= limit]
    shift = max(below, default=fmt.exponent_min)
    exponents = {name: e + shift for name, e in exponents.items()}
    wished = 2.0**shift / unit
    if free:
        vth = np.asarray(wished * min(1.0, limit / float(np.max(wished))))
        return Units(vth, exponents, {name: np.asarray(lsb[name] * 2.0**e / vth) for name, e in exponents.items()})
    whole = _not_finer(wished, fmt.m_max) if fixed else np.rint(wished)
    vth = np.clip(whole, 1, max(1, int(np.rint(limit)))).astype(np.int64)
    steps: dict[str, Array] = {name: np.asarray(lsb[name] * 2.0**e / vth) for name, e in exponents.items()}
    return Units(vth, exponents, steps)


def _not_finer(vth: Array, m_max: int) -> Array:
    """Rounded; down where rounding up made steps so fine that the largest weight would lose more than half a step."""
    nearest = np.rint(vth)
    return np.where((nearest - vth) * m_max > 0.5 * vth, np.floor(vth), nearest)
