"""The mildest compression that fits a chip: bits for all layers and a sparsity for each, of least estimated loss.

The search knows losses only as tables, so that it works without data (`Losses.of_weights`) and with it
(`deployment.fit_search.losses_of_data`). A plan says whether a choice fits, and no choice is given that the rules do
not pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..by_layer import split
from ..chip.on_chip.units import holds_both_signs
from ..chip.profile.schema import FanInPolicy
from ..errors import refuse
from ..network.chip_form import chip_form
from ..network.connections import Connection
from ..network.nodes import WEIGHTED
from ..shown import listed
from .plan import Plan
from .rules.all_rules import RULES, Violation

Floats = NDArray[np.float64]
Levels = NDArray[np.int64]  # (groups,) indices into SHARES

#: Shares of a layer's weights that may stay, mildest first.
SHARES: Floats = np.array([1, .8, .65, .5, .4, .32, .25, .2, .16, .125, .1, .08, .064, .05, .04, .032, .025, .02, .016,
                           .0125, .01, .008, .005, .0032, .002, .001])
#: Steps of the price of a weight, from nothing to all of a layer's loss for a single weight.
PRICES = 96
#: Share of its squares that a layer may lose: beyond it what a layer loses outweighs what it keeps, and an estimate
#: that adds up squares says nothing any more of what the network computes.
BOUND = 0.5
#: Chips that are tried when one is not enough.
MOST_CHIPS = 1 << 16


@dataclass(frozen=True, eq=False)
class Losses:
    """Estimated losses of groups of layers. layers: names by group. weights: (groups,). pruning: (groups, SHARES).
    rounding: by bits, (groups,) of a dense group; a sparse one loses its share of it. kept: by layer, the share of its
    weights that stays at each of SHARES. what: of each layer a loss is a share of, for people."""

    layers: tuple[tuple[str, ...], ...]
    weights: Floats
    pruning: Floats
    rounding: Mapping[int, Floats]
    kept: Mapping[str, Floats]
    what: str

    @property
    def unit(self) -> str:
        """What a loss of 1 is, for people."""
        return f"of {len(self.layers)} (the share of its {self.what} that each layer loses)"

    @staticmethod
    def of_weights(
        connections: tuple[Connection, ...], widths: list[int], stored: Mapping[str, int] | None = None
    ) -> Losses:
        """Without data: the share of a layer's sum of squares that pruning by magnitude and rounding remove.

        stored: by layer, its own weights; where pools repeat them, fewer than its synapses, and pruned one by one."""
        trained = {c.layer: c for c in connections if c.trained}
        pruning, rounding, sizes, kept = [], [], [], {}
        for c in trained.values():
            values = c.weight if isinstance(c.weight, np.ndarray) else c.weight.data
            magnitude = np.abs(values).ravel()
            total = float(np.square(magnitude, dtype=np.float64).sum()) or 1.0
            own = (stored or {}).get(c.layer, magnitude.size)
            kept[c.layer] = SHARES if own >= magnitude.size else np.maximum(1, np.rint(SHARES * own)) / own
            pruning.append(_tails(magnitude, kept[c.layer]) / total)
            end = float(magnitude.max(initial=0.0))
            rounding.append([magnitude.size * (end / max(1, (1 << (b - 1)) - 1)) ** 2 / 12 / total for b in widths])
            sizes.append(magnitude.size)
        table = np.asarray(rounding).reshape(len(sizes), len(widths))
        return Losses(
            tuple((name,) for name in trained), np.asarray(sizes, dtype=np.float64),
            np.asarray(pruning).reshape(len(sizes), len(SHARES)), {b: table[:, k] for k, b in enumerate(widths)},
            kept, "squared weights")

    def levels(self, bits: int, price: float, least: Levels) -> Levels:
        """(groups,) index into SHARES of least loss plus price x weights that stay, none below `least`."""
        cost = self.table(bits) + price * self.weights[:, None] * SHARES
        cost[np.arange(len(SHARES)) < least[:, None]] = np.inf
        found: Levels = cost.argmin(axis=1)
        return found

    def prices(self, bits: int) -> tuple[float, float]:
        """Of a weight, at which no group sheds any, and at which all shed all they can."""
        slope = np.diff(self.table(bits), axis=1) / (-np.diff(SHARES) * self.weights[:, None])
        slope = slope[slope > 0]
        return (float(slope.min()) / 4, float(slope.max()) * 4) if slope.size else (1e-12, 1.0)

    def levels_at(self, bits: int, share: float) -> Levels:
        """The levels of one price at which at most this share of all weights stays; every group's last where none
        is so high."""
        nothing = np.zeros(len(self.layers), dtype=np.int64)
        for price in [0.0, *np.geomspace(*self.prices(bits), PRICES)]:
            levels = self.levels(bits, price, nothing)
            if float(self.weights @ SHARES[levels]) <= share * float(self.weights.sum()) * (1 + 1e-9):
                break
        return levels

    def loss(self, bits: int, levels: Levels) -> float:
        """The estimate for a choice, all groups together."""
        return float(self.table(bits)[np.arange(len(levels)), levels].sum())

    def table(self, bits: int) -> Floats:
        """(groups, SHARES) losses."""
        return np.asarray(self.pruning + self.rounding[bits][:, None] * SHARES)

    def sparsity(self, levels: Levels) -> dict[str, float]:
        """By layer."""
        return {n: 1.0 - float(self.kept[n][k]) for group, k in zip(self.layers, levels, strict=True) for n in group}


def _tails(magnitude: np.ndarray, kept: Floats) -> Floats:
    """Sum of the smallest squares when each of these shares of them stays; slice by slice, for large layers."""
    drop = magnitude.size - np.maximum(1, np.rint(kept * magnitude.size)).astype(np.int64)
    ordered, ends = np.sort(magnitude), np.maximum.accumulate(np.maximum(drop, 0))
    slices = [ordered[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return np.cumsum([float(np.square(part, dtype=np.float64).sum()) for part in slices])


@dataclass(frozen=True, eq=False)
class Found:
    """plan: fits, or where nothing does the hardest compression. bits: of all layers. sparsity: by layer. loss: the
    estimate, in `unit`. walls: what stops it, worst first, empty when it fits. price: that a weight had.
    chips: that would do where nothing fits, without compression and with the hardest; None when no number would.
    worst: the layer that loses most and its loss, a share of `what`; beyond: it is above BOUND, and nothing below it
    fits."""

    plan: Plan
    bits: int
    sparsity: Mapping[str, float]
    loss: float
    unit: str
    walls: tuple[Violation, ...]
    price: float
    chips: tuple[int | None, int | None] = (None, None)
    tried: int = 1
    worst: tuple[str, float] = ("", 0.0)
    beyond: bool = False
    what: str = ""

    @property
    def fits(self) -> bool:
        return not self.walls and not self.beyond

    @property
    def said(self) -> str:
        """What the mildest compression would lose, where that is beyond the bound."""
        zeros = ", ".join(f"'{name}' {share:.1%}" for name, share in self.sparsity.items() if share)
        return (f"the mildest that fits ({self.bits} bit; zeros: {zeros}) loses {self.worst[1]:.3g} "
                f"of the {self.what} of '{self.worst[0]}', and above {BOUND:g} a layer loses more than it keeps")

    def __repr__(self) -> str:
        head = f"{'Fits' if self.fits else 'Does not fit'} with {self.bits} bit"
        if self.fits and not self.loss:
            return f"{head}, as it is"
        return listed(f"{head}, estimated loss {self.loss:.3g} {self.unit}, {self.tried} choices tried",
                      (f"{name}: {share:.1%} zeros" for name, share in self.sparsity.items() if share),
                      (f"{w.code} {w.layer}: {w.resource}" for w in self.walls))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "fits": self.fits, "bits": self.bits, "sparsity": dict(self.sparsity), "fan_in": dict(self.plan.fan_in),
            "loss": self.loss, "loss_unit": self.unit, "tried": self.tried,
            "loss_bound": BOUND, "worst_layer": self.worst[0], "worst_layer_loss": self.worst[1], "beyond": self.beyond,
            "chips_uncompressed": self.chips[0], "chips_compressed": self.chips[1],
            "walls": [{"code": v.code, "layer": v.layer, "resource": v.resource, "needed": v.needed,
                       "available": v.available} for v in self.walls],
        }


def mildest(plan: Plan, losses: Losses, widths: list[int], margin: float = 0.0, bound: float = BOUND) -> Found:
    """The choice of least loss that fits, among `widths` for all layers and SHARES for each.

    margin: so much more of a pruned layer's weights is counted than shall stay: real ones can take more. bound: that no
    layer's loss may pass; where only choices beyond it fit, the mildest of them is given as one that does not.
    """
    search = _Search(plan, losses, margin, math.inf)
    hardest = search.choice(min(widths), 0.0, search.everything)
    if not hardest.fits:
        chips = chips_for(plan), chips_for(hardest.plan)
        return replace(hardest, walls=every_violation(hardest.plan), chips=chips, tried=search.tried)
    if math.isfinite(bound):
        within = _Search(plan, losses, margin, bound)
        if best := within.best(widths):
            return replace(best, tried=search.tried + within.tried)
    best = search.best(widths) or hardest
    if best.worst[1] <= bound:
        return replace(best, tried=search.tried)
    return replace(best, tried=search.tried, beyond=True, chips=(chips_for(plan), None))


def as_it_is(plan: Plan) -> Found:
    """The plan without any change; its loss is not counted."""
    bits = max(plan.bits.values(), default=plan.profile.default_bits)
    return Found(plan, bits, dict.fromkeys((c.layer for c in plan.connections if c.trained), 0.0), 0.0, "",
                 violations(plan), 0.0)


class _Search:
    def __init__(self, plan: Plan, losses: Losses, margin: float, bound: float):
        self.plan, self.losses, self.margin, self.bound, self.tried = plan, losses, margin, bound, 0
        self.nothing = np.zeros(len(losses.layers), dtype=np.int64)
        self.everything = np.full(len(losses.layers), len(SHARES) - 1)
        self.group_of = {n: k for k, group in enumerate(losses.layers) for n in group}

    def best(self, widths: list[int]) -> Found | None:
        """The choice of least loss that fits, None where none does."""
        best: Found | None = None
        for bits in sorted(widths, reverse=True):
            if best is not None and self.losses.loss(bits, self.nothing) >= best.loss:
                break  # rounding alone loses more
            if (self.last(bits) < 0).any():
                continue  # rounding alone is beyond the bound
            found = self.at(bits)
            if found.fits and (best is None or found.loss < best.loss):
                best = found
        return best

    def last(self, bits: int) -> Levels:
        """(groups,) the last level within the bound, -1 where none is."""
        found: Levels = (self.losses.table(bits) <= self.bound).cumprod(axis=1).sum(axis=1) - 1
        return found

    def at(self, bits: int) -> Found:
        """The mildest choice with these bits, or one that does not fit."""
        last = self.last(bits)
        prices = [0.0, *np.geomspace(*self.losses.prices(bits), PRICES)]
        least, stride = self.nothing.copy(), self.nothing.copy()
        while True:  # what breaks a rule of its own layer is pruned there, in steps that grow
            found = self.choice(bits, prices[0], least)
            local = self._local(found) & (least < last)
            if not local.any():
                break
            stride = np.where(local, np.maximum(1, 2 * stride), stride)
            least = np.minimum(least + stride * local, last)
        for k in np.flatnonzero(least):  # and no further than it must
            low, high = int(least[k] - stride[k]), int(least[k])
            while high - low > 1:
                trial = least.copy()
                trial[k] = (low + high) // 2
                broken = self._local(self.choice(bits, prices[0], trial))
                low, high = (int(trial[k]), high) if broken[k] else (low, int(trial[k]))
            least[k] = high
        found = self.choice(bits, prices[0], least)
        if found.fits:
            return found
        low, high = 0, len(prices) - 1
        found = self.choice(bits, prices[high], least)
        while found.fits and high - low > 1:
            middle = (low + high) // 2
            tried = self.choice(bits, prices[middle], least)
            if tried.fits:
                high, found = middle, tried
            else:
                low = middle
        return self._relaxed(found, least) if found.fits else found

    def _relaxed(self, found: Found, least: Levels) -> Found:
        """Every group as mild as the others let it be, the one that loses most first: what is dear may free nothing
        that is short."""
        levels = np.minimum(self.losses.levels(found.bits, found.price, least), self.last(found.bits))
        lost = self.losses.table(found.bits)[np.arange(len(levels)), levels]
        for k in np.argsort(-lost, kind="stable"):
            low, high, level = int(least[k]) - 1, int(levels[k]), int(least[k])  # does not fit, fits, tried next
            while high - low > 1:
                trial = levels.copy()
                trial[k] = level
                tried = self.taken(found.bits, found.price, trial)
                if tried.fits:
                    found, high = tried, level
                else:
                    low = level
                level = (low + high) // 2
            levels[k] = high
        return found

    def choice(self, bits: int, price: float, least: Levels) -> Found:
        levels = self.losses.levels(bits, float(price), least)
        return self.taken(bits, price, np.minimum(levels, self.last(bits)))

    def taken(self, bits: int, price: float, levels: Levels) -> Found:
        sparsity = self.losses.sparsity(levels)
        self.tried += 1
        counted = {n: max(0.0, 1.0 - (1.0 - s) * (1.0 + self.margin)) for n, s in sparsity.items()}
        plan = self.plan.changed(bits=dict.fromkeys(self.plan.bits, bits), sparsity=counted)
        lost = self.losses.table(bits)[np.arange(len(levels)), levels]
        worst = ("", 0.0) if not lost.size else (self.losses.layers[int(lost.argmax())][0], float(lost.max()))
        return Found(plan, bits, sparsity, self.losses.loss(bits, levels), self.losses.unit, violations(plan),
                     float(price), worst=worst, what=self.losses.what)

    def _local(self, found: Found) -> NDArray[np.bool_]:
        """(groups,) whether it breaks a rule of its layer alone that sparsity can relieve."""
        broken = np.zeros(len(self.losses.layers), dtype=bool)
        for v in found.walls:
            relief = RULES[v.code].relief
            if "sparsity" in relief and "chips" not in relief:
                kernels = "bits" in relief or not found.plan.profile.memory.shared_kernels.value
                names = found.plan.relieving(v)
                for c in found.plan.connections:
                    if c.layer in names and c.layer in self.group_of and (kernels or c.kernel is None):
                        broken[self.group_of[c.layer]] = True
        return broken


def mildest_of_weights(plan: Plan, bits: int | None, fan_in_pruned: bool, bound: float = BOUND) -> Found:
    """`mildest` by the weights alone. bits: for all layers; the chip's default and fewer without it. fan_in_pruned:
    neurons above the chip's limit are pruned to it."""
    plan = plan.pruned_to_limits() if fan_in_pruned else plan
    widths = widths_of(plan, bits)
    found = as_it_is(plan)
    if found.fits:
        return found
    if plan.stopping:
        return replace(found, walls=every_violation(plan))
    stored = {n: node.weight.size for n, node in chip_form(plan.network).nodes.items() if isinstance(node, WEIGHTED)}
    return mildest(plan, Losses.of_weights(plan.connections, widths, stored), widths, bound=bound)


def prunes(plan: Plan, said: FanInPolicy | None) -> bool:
    """Whether a compression may prune fan-in: where the profile has no other way, unless the user said otherwise."""
    return said == "prune" or (said is None and plan.policy in ("prune", "refuse"))


def one_width(bits: int | Mapping[str, int] | None) -> int | None:
    """The width that a search keeps. Raises `Refused` for widths by layer: it gives all layers the same."""
    width, others = split(bits)
    if others:
        raise refuse("a search (--fit, --max-drop) gives all layers the same bits, and --bits names single layers",
                     fix="Give one number of --bits, or leave out the search")
    return width


def widths_of(plan: Plan, bits: int | None) -> list[int]:
    """Bits to try: those given, or the chip's default and all that are fewer."""
    default = plan.profile.default_bits
    return [bits] if bits is not None else [
        b for b in plan.profile.weights.bits.value or [default] if b <= default and holds_both_signs(plan.profile, b)]


def violations(plan: Plan) -> tuple[Violation, ...]:
    """Broken rules of a plan, the largest ratio of needed to available first. Where too many cores are needed even at
    best, nothing is placed."""
    per_chip = plan.profile.topology.cores_per_chip.value
    if per_chip is not None and plan.fewest_cores > per_chip * plan.chips:
        largest = max(plan.network.populations, key=lambda n: math.prod(plan.network.shapes[n]))
        return (Violation("NC301", largest, "cores", plan.fewest_cores, per_chip * plan.chips, "cores"),)
    return every_violation(plan)


def every_violation(plan: Plan) -> tuple[Violation, ...]:
    """Broken rules of a plan that is placed, however many cores it takes, the largest ratio of needed to available
    first."""
    found = [f for f in plan.findings if isinstance(f, Violation)]
    return tuple(sorted(found, key=lambda v: -(v.needed / v.available if v.available else math.inf)))


def chips_for(plan: Plan) -> int | None:
    """The fewest chips with which a plan fits; None when no number helps."""
    per_chip, chips = plan.profile.topology.cores_per_chip.value, plan.chips
    while chips <= MOST_CHIPS:
        tried = plan if chips == plan.chips else plan.changed(chips=chips)
        broken = [f for f in tried.findings if isinstance(f, Violation)]
        if not broken:
            return chips
        if any("chips" not in RULES[v.code].relief for v in broken):
            return None
        wanted = [math.ceil(v.needed / v.available * chips) if v.available else MOST_CHIPS + 1 for v in broken]
        chips = max(chips + 1, *wanted, math.ceil(tried.placement.cores / per_chip) if per_chip else 0)
    return None
