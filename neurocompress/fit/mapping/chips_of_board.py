"""Which chip of a board holds which core, so that few spikes cross from chip to chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .layer import Placement
from .synapse_counts import Ints
from .traffic import Floats, traffic

#: Cores up to which cores are exchanged between chips; beyond, chips take them in the order of the layers.
MOST_EXCHANGED = 1024
#: Exchanges at most; each makes the spikes that cross fewer.
EXCHANGES = 500


@dataclass(frozen=True, eq=False)
class Board:
    """chip: (cores,) of each core. messages: spikes per step, counted once for each core that hears them, input left
    out; across_cores, across_chips: those of them that leave their core, their chip. assumed: rates are not measured,
    every neuron spikes in every step."""

    chip: Ints
    messages: float
    across_cores: float
    across_chips: float
    assumed: bool


def board(placement: Placement, per_chip: int, rates: Mapping[str, Floats] | None = None) -> Board:
    """Cores on chips with room for `per_chip` each; `placement.cores` must not exceed that of all chips together.

    rates: spikes per step of each neuron, (neurons,) by population; every neuron spikes in every step without.
    """
    sent = traffic(placement.layers, placement.cores, rates)
    at = np.arange(placement.cores) // per_chip
    if at.size and at[-1] > 0 and at.size <= MOST_EXCHANGED:
        at = exchanged(at, sent + sent.T, per_chip)
    leaves = float(sent.sum() - np.trace(sent))
    crosses = float(sent[at[:, None] != at[None]].sum())
    return Board(at, float(sent.sum()), leaves, crosses, rates is None)


def exchanged(chip: Ints, weight: Floats, room: int) -> Ints:
    """Cores on chips after moving one core, or swapping two, where that saves most, until nothing does.

    chip: (cores,) to begin with; weight: (cores, cores) symmetric, what two cores send each other; room: cores that a
    chip holds. The same as Kernighan and Lin 1970 for two chips, without their sequences of losses.
    """
    chip = chip.copy()
    cores, chips = np.arange(chip.size), int(chip.max()) + 1
    to = np.stack([weight[:, chip == k].sum(axis=1) for k in range(chips)], axis=1)  # (cores, chips)
    for _ in range(EXCHANGES):
        free = np.bincount(chip, minlength=chips) < room
        gain = to - to[cores, chip][:, None]
        moves = np.where(free[None] & (np.arange(chips)[None] != chip[:, None]), gain, -np.inf)
        swaps = gain[:, chip] + gain[:, chip].T - 2 * weight
        swaps[chip[:, None] == chip[None]] = -np.inf
        a, b = np.unravel_index(int(np.argmax(swaps)), swaps.shape)
        c, k = np.unravel_index(int(np.argmax(moves)), moves.shape)
        if max(swaps[a, b], moves[c, k]) <= 1e-9:
            break
        changes = [(c, k)] if moves[c, k] >= swaps[a, b] else [(a, chip[b]), (b, chip[a])]
        for core, goes in changes:
            to[:, chip[core]] -= weight[:, core]
            to[:, goes] += weight[:, core]
            chip[core] = goes
    return chip
