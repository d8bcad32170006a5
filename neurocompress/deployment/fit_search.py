"""Compression until a network fits a chip, or until it is as small as its accuracy allows.

The search (fit/compression_search.py) estimates; what it found is then compressed with data, and the real weights are
held against every rule again. Nothing is given back that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from glob import escape

import numpy as np

from ..chip.profile.load import Profile
from ..chip.profile.schema import FanInPolicy
from ..compression.layerwise.calibrate import Statistics
from ..compression.layerwise.loss_curves import loss_curves, rounding_loss, whole_loss
from ..compression.model import MEMORY
from ..compression.recipe import LayerRecipe, Recipe, recipe_of
from ..data.calibration import CalibrationSet
from ..errors import Problem, Unfit
from ..fit.check import Fit, check_fit, plan_of, refuse_unbuildable
from ..fit.compression_search import (
    BOUND,
    SHARES,
    Found,
    Losses,
    as_it_is,
    chips_for,
    mildest,
    mildest_of_weights,
    one_width,
    prunes,
    widths_of,
)
from ..fit.plan import Plan
from ..fit.rules.rule import Violation
from ..network.graph import Network
from ..network.readout import Tail
from ..network.titles import titles_of
from ..progress import Progress
from .compress_for_chip import compress_for, for_rules, statistics_for
from .compressed import Compressed

#: Compressions at most before the search gives up: the real masks are a little unlike the expected ones.
ROUNDS = 12
#: By how much more weights are counted when the real ones do not fit.
MARGIN, MOST_MARGIN = 0.1, 4.0
#: Shares of all weights that may stay, mildest first, for the smallest network within a loss of accuracy.
LADDER = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.064, 0.045, 0.032, 0.022)

#: Accuracy in percent of a compressed network on samples that compression has not seen.
Accuracy = Callable[[Compressed], float]


@dataclass(frozen=True, eq=False)
class Board:
    """The chips that a network shall fit. bits: of all layers or by patterns of their names, None for the chip's
    choice. chips: None for the profile's number. policy: what becomes of neurons with too many synapses, None for the
    profile's. tail: how the networks that shall fit it end."""

    profile: Profile
    bits: int | Mapping[str, int] | None = None
    chips: int | None = None
    policy: FanInPolicy | None = None
    tail: Tail | None = None

    def plan(self, network: Network) -> Plan:
        """Of the network as it is, with conventions that the chip has. Raises `Unfit` where it has no form there."""
        found = plan_of(for_rules(network, self.profile), self.profile, self.bits, chips=self.chips, policy=self.policy)
        refuse_unbuildable(found)
        return found

    def fit(self, made: Compressed) -> Fit:
        """Of the real weights behind the model's own neurons, not those that the chip has instead: their fan-in is
        pruned already."""
        policy = "refuse" if self.policy == "prune" else self.policy
        asked = for_rules(made.original, self.profile)
        network = made.network.with_nodes({name: asked.nodes[name] for name in asked.populations})
        return check_fit(replace(network, conventions=asked.conventions), self.profile, made.bits, chips=self.chips,
                         policy=policy, built=True, model=None if self.tail is None else self.tail.chip)


@dataclass(frozen=True, eq=False)
class Fitted:
    """compressed: fits, as `fit` says. data: what it was compressed with. said: what it cost, one sentence each."""

    compressed: Compressed
    fit: Fit
    data: CalibrationSet
    said: tuple[str, ...]


def limited_to(recipe: Recipe, plan: Plan, statistics: Statistics) -> Recipe:
    """The recipe with the fan-in limits of a plan; layers that share their neurons share one limit."""
    most: dict[str, int] = {}
    for c in plan.connections:  # those of one layer have its zeros
        if c.name in plan.fan_in:
            own = plan.fan_in[c.name] // c.repeats
            most[c.layer] = min(own, most.get(c.layer, own))
    layers = list(recipe.layers)
    for stage in statistics.model.stages():
        for group in stage.groups:
            within = {n: most[n] for n in group if n in most}
            layers += [LayerRecipe(match=escape(n), fan_in=max(1, sum(within.values()))) for n in within]
    return recipe.model_copy(update={"layers": tuple(layers)})


def compress_to_policy(
    network: Network, board: Board, spikes: np.ndarray, recipe: Recipe, *, progress: Progress | None = None,
) -> Fitted:
    """`compress_for`, whether it fits or not; neurons with too many synapses pruned to the chip's limit where that is
    the policy."""
    plan = board.plan(network)
    limited = plan.pruned_to_limits() if plan.policy == "prune" else plan
    data = CalibrationSet.of(spikes, recipe.distilled_pruned if limited.fan_in else recipe.distilled)
    statistics = statistics_for(network, board.profile, data.fit, recipe)
    recipe = limited_to(recipe, limited, statistics)
    made = replace(compress_for(network, board.profile, data.fit, recipe, bits=board.bits, statistics=statistics,
                                progress=progress), tail=board.tail)
    return Fitted(made, board.fit(made), data, ())


def compress_to_fit(
    network: Network, board: Board, spikes: np.ndarray, recipe: Recipe, *, progress: Progress | None = None,
) -> Fitted:
    """The mildest compression with which a network fits a board: bits and a sparsity for each layer, of least loss.

    spikes: calibration data (samples, timesteps, *input shape). recipe: method and grid; bits and sparsity are chosen.
    Raises `Unfit` when nothing fits, with every limit that stops it and the number of chips that would do.
    """
    search = _Fitting(network, board, spikes, recipe, progress)
    found = as_it_is(search.plan)
    if not found.fits:  # before it takes long to measure what layers lose
        found = mildest_of_weights(search.plan, search.bits, fan_in_pruned=False, bound=np.inf)
    if not found.fits:
        raise unfit(board.profile, found)
    if found.loss:
        found = mildest(search.plan, search.losses, search.widths)
        if found.beyond:
            raise unfit(board.profile, found)
    margin = 0.0
    for _ in range(ROUNDS):
        made = search.compressed(found.bits, found.sparsity)
        fit = board.fit(made)
        if fit.fits:
            return Fitted(made, fit, search.data, _cost(found, made))
        before = found
        while found.fits and (found.bits, found.sparsity) == (before.bits, before.sparsity) and margin < MOST_MARGIN:
            margin += MARGIN * (1.0 + margin)
            found = mildest(search.plan, search.losses, search.widths, margin)
        if not found.fits or margin >= MOST_MARGIN:
            break
    raise unfit(board.profile, replace(found, walls=fit.violations, chips=(None, chips_for(fit.plan))))


def compress_within(
    network: Network, board: Board, spikes: np.ndarray, recipe: Recipe, accuracy: Accuracy, least: float, *,
    progress: Progress | None = None,
) -> Fitted:
    """The network of fewest bytes on the chip that fits and whose accuracy is at least `least` percent.

    For each width, widest first, the least share of LADDER that stays accurate is found by bisection, as if accuracy
    fell with every weight; narrower widths try only what is smaller. Raises `Unfit` when not even
    the mildest is accurate and fits.
    """
    search = _Fitting(network, board, spikes, recipe, progress, smaller=True)
    best: Fitted | None = None
    size = np.inf  # bits x share of the best
    for bits in sorted(search.widths, reverse=True):
        low = max((k for k, share in enumerate(LADDER) if bits * share >= size), default=-1)  # larger than the best
        high, better = len(LADDER), False
        while high - low > 1:
            trial = (low + high) // 2
            made = search.compressed(bits, search.losses.sparsity(search.losses.levels_at(bits, LADDER[trial])))
            found, fit = accuracy(made), board.fit(made)
            if found < least:
                high = trial
                continue
            low = trial
            if fit.fits and (best is None or fit.totals["memory"] < best.fit.totals["memory"]):
                zeros = 1 - sum(np.count_nonzero(x.weight) for x in made.layers.values()) / sum(
                    x.weight.size for x in made.layers.values())
                best, size, better = Fitted(made, fit, search.data, (
                    f"the smallest within the accuracy asked for: {bits} bits per weight and {zeros:.1%} zeros, "
                    f"{fit.totals['memory']:,} bytes; {found:.2f} % where at least {least:.2f} % is asked for, on the "
                    "samples that chose it",)), bits * LADDER[trial], True
        if best is not None and not better:
            break  # narrower ones are worse
    if best is None:
        raise Unfit(Problem(f"no compression of it is at least {least:.2f} % accurate and fits {board.profile.title}",
                            fix="Allow a larger --max-drop, give more chips, or look at `neurocompress check --fit`"))
    return best


class _Fitting:
    """What all trials of one network share: its plan, its statistics, and how much each layer loses. smaller: than
    the board asks for."""

    def __init__(self, network: Network, board: Board, spikes: np.ndarray, recipe: Recipe, progress: Progress | None,
                 smaller: bool = False):
        self.network, self.board, self.recipe, self.progress = network, board, recipe, progress
        self.bits = one_width(board.bits)
        plan = board.plan(network)
        self.plan = plan.pruned_to_limits() if prunes(plan, board.policy) else plan
        pruned = smaller or self.plan.fan_in or not as_it_is(self.plan).fits  # then it learns
        self.data = CalibrationSet.of(spikes, recipe.distilled_pruned if pruned else recipe.distilled)
        self.statistics = statistics_for(network, board.profile, self.data.fit, recipe)
        self.widths = widths_of(self.plan, self.bits)
        self._losses: Losses | None = None

    @property
    def losses(self) -> Losses:
        if self._losses is None:
            channels = self.board.profile.weights.scale.value == "per-channel"
            grid = {"levels": "symmetric", "scale": "per-channel" if channels else "per-layer"}
            recipe = recipe_of(self.recipe, grid=grid)
            self._losses = losses_of_data(self.statistics, recipe, self.widths, self.progress)
        return self._losses

    def compressed(self, bits: int, sparsity: Mapping[str, float]) -> Compressed:
        layers = tuple(LayerRecipe(match=escape(n), sparsity=s) for n, s in sparsity.items() if s > 0)
        recipe = self.recipe.model_copy(update={"layers": (*self.recipe.layers, *layers), "sparsity": 0.0})
        recipe = limited_to(recipe, self.plan, self.statistics)
        made = compress_for(self.network, self.board.profile, self.data.fit, recipe, bits=bits,
                            statistics=self.statistics, progress=self.progress)
        return replace(made, tail=self.board.tail)


def losses_of_data(statistics: Statistics, recipe: Recipe, widths: list[int], progress: Progress | None) -> Losses:
    """What pruning and rounding cost on calibration data: squared errors of the potential, of each layer as a share of
    the square of its potential. Shares, because neurons that integrate for long have large potentials and errors."""
    stages = statistics.model.stages()
    every = [module for stage in stages for module in stage.modules]
    found = ((module, calibration) for stage, calibration in statistics.each(stages) for module in stage.modules)
    pruning, rounding, kept = [], [], {}
    for place, (module, calibration) in enumerate(found):
        if progress:
            progress("measuring what layers lose", place, len(every))
        hessian = module.of_hessian(calibration.hessians[module.group])
        curve = loss_curves(module, hessian, recipe, MEMORY)
        share, whole = curve.keep[::-1] / curve.keep[0], whole_loss(module, hessian) or 1.0
        pruning.append(np.interp(np.log(SHARES), np.log(share), curve.loss[::-1]) / whole)
        rounding.append([rounding_loss(module, hessian, recipe, bits) / whole for bits in widths])
        for name, points in curve.layers.items():
            left = np.maximum(points[::-1], 1)  # a layer that shares its neurons with others keeps a weight of its own
            kept[name] = np.interp(SHARES, share, left / left[-1])
    table = np.asarray(rounding).reshape(len(every), len(widths))
    return Losses(
        tuple(m.layers for m in every), np.array([m.weight.numel() for m in every], dtype=np.float64),
        _beyond(np.asarray(pruning).reshape(len(every), len(SHARES))),
        {b: table[:, k] for k, b in enumerate(widths)}, kept,
        "squared potential")


def _beyond(pruning: np.ndarray) -> np.ndarray:
    """Below the fewest weights that were measured, losses go on rising a little: fewer are never as good."""
    return np.asarray(np.maximum.accumulate(pruning, axis=1) * (1 + 1e-6 * np.arange(pruning.shape[1])))


def unfit(profile: Profile, found: Found) -> Unfit:
    """Every limit that the hardest compression still breaks, and the chips that would do."""
    ways = [f"{n} chip{'s' if n > 1 else ''} would do {how} (--chips {n})"
            for n, how in zip(found.chips, ("without compression", "with compression"), strict=True) if n]
    fix = "; ".join(ways) or "No number of chips would do: choose another target or a smaller network"
    of = titles_of(found.plan.network)
    if found.beyond:
        return Unfit(Problem(f"no compression within the bound makes it fit {profile.title}: {found.said}", fix=fix))
    return Unfit(Problem(f"no compression makes it fit {profile.title}: {_needs(v)}", f"{v.code} {of(v.layer)}", fix)
                 for v in found.walls)


def _needs(v: Violation) -> str:
    return f"{v.resource}: {v.needed:,g} {v.unit} needed, {v.available:,g} available"


def _cost(found: Found, made: Compressed) -> tuple[str, ...]:
    zeros = {n: float(np.mean(layer.weight == 0)) for n, layer in made.layers.items()}
    if not any(found.sparsity.values()) and not found.plan.fan_in:
        return (f"fits with {found.bits} bits per weight and without pruning",)
    sparse = ", ".join(f"'{n}' {zeros[n]:.1%}" for n, s in found.sparsity.items() if s > 0 and n in zeros)
    said = [f"the mildest compression that fits: {found.bits} bits per weight"
            + (f" and zeros in {sparse}" if sparse else "")]
    said += [f"'{n}' keeps at most {most} synapses to a neuron, the chip's limit"
             for n, most in found.plan.fan_in.items()]
    worst = f"{found.worst[1]:.3g} of '{found.worst[0]}' (at most {BOUND:g})"
    return (*said, f"its estimated loss is {found.loss:.3g} {found.unit}, {worst}; {found.tried} choices were tried")
