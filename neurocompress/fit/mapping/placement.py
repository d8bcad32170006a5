"""A network on cores: every population cut into core-sized pieces, and pieces of small layers together on a core.

The same network always gives the same placement.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...chip.profile.memory_formulas import FORMULAS
from ...chip.profile.schema import Profile
from .fan_in_policy import Wiring, likeness
from .layer import Layer, Placement
from .packing import closer, in_order, packed
from .partition import Cutter, Incoming, Limits
from .synapse_counts import Cut, Format, Ints
from .traffic import traffic

#: Cuts and reaches that were found before, each with the fans that its key names.
Memo = dict[Hashable, tuple[Any, Any]]

#: The formula of a chip that stores synapses in a way that is not public; nothing is held against it.
LEAST = "weight-and-index-bits"


def place(
    wiring: Wiring, profile: Profile, *, bits: Mapping[str, int], per_neuron: int = 1, chips: int = 1,
    like: Placement | None = None, memo: Memo | None = None,
) -> Placement:
    """Cut every population into core-sized pieces and number their cores.

    bits: stored bits by layer of weights. per_neuron: compartments that a neuron takes. like: a placement of the same
    populations that take at least as much of everything: its pieces and cores are taken. memo: shared by calls for the
    same profile. On a chip with one layer to a core nothing is cut.
    """
    memory, core = profile.memory, profile.core
    formula, shared = FORMULAS[memory.formula.value or LEAST], bool(memory.shared_kernels.value)
    neuron_bits = (memory.neuron_bits.value or 0) if memory.neuron_bits else 0
    limits = Limits.of(profile)
    cutters: dict[str, Cutter] = {}
    for name, shape in wiring.populations.items():
        incoming = tuple(
            Incoming(f, Format(formula, bits[f.connection.layer], wiring.delays[id(f.connection)].bit_length(), shared))
            for f in wiring.fans if f.connection.target == name
        )
        widest = max((i.form.delay_bits for i in incoming), default=0)
        cutters[name] = Cutter(shape, incoming, per_neuron * wiring.joined.get(name, 1), neuron_bits, widest, limits)
    whole = profile.topology.one_layer_per_core
    if whole is not None and whole.value:
        fixed: dict[str, Cut] = {name: tuple((0, n) for n in cutter.grid) for name, cutter in cutters.items()}
    else:
        fixed = {} if like is None else {x.name: x.cut for x in like.layers}
    known: Memo = {} if memo is None else memo

    def laid(crossing: bool) -> tuple[Layer, ...]:
        entry = core.axon_out_entries_cross_chip if crossing else core.axon_out_entries_same_chip
        leaving = _Leaving(cutters, (entry.value if entry else None) or 1, dict(fixed), wiring.stages, known)
        leaving.settle({name for name in cutters if name not in fixed})
        return _numbered(tuple(
            Layer(name, wiring.stages.get(name, name), cutter.incoming, leaving.cuts[name], np.zeros(0, dtype=np.int64),
                  fan_in=-(-cutter.fan_in // wiring.joined.get(name, 1)),
                  **cutter.loads(leaving.cuts[name], leaving.of(name)))
            for name, cutter in cutters.items()
        ), cutters, leaving.of, profile, like)

    per_chip = profile.topology.cores_per_chip.value
    if like is not None:
        return Placement(laid(crossing=chips > 1 and per_chip is not None and like.cores > per_chip), chips)
    found = Placement(laid(crossing=False), chips)
    if chips > 1 and per_chip is not None and found.cores > per_chip:
        found = Placement(laid(crossing=True), chips)
        if found.cores <= per_chip:  # so cut it fits on one chip, where nothing crosses
            one, two = ((entry.value if entry else None) or 1 for entry in (
                core.axon_out_entries_same_chip, core.axon_out_entries_cross_chip))
            found = Placement(tuple(replace(x, axons_out=x.axons_out // two * one) for x in found.layers), chips)
    return found


class _Leaving:
    """Out entries of neurons, for the targets that are cut already. entries: that one neuron takes for one core.
    stages: for partial sums, the population that gathers them. memo: what was found before."""

    def __init__(self, cutters: dict[str, Cutter], entries: int, cuts: dict[str, Cut], stages: Mapping[str, str],
                 memo: Memo):
        self.cutters, self.entries, self.cuts, self.stages, self.memo = cutters, entries, cuts, stages, memo
        self._from: dict[str, list[tuple[str, Incoming]]] = {}
        for target, cutter in cutters.items():
            for i in cutter.incoming:
                self._from.setdefault(i.connection.source, []).append((target, i))

    def of(self, name: str) -> Ints:
        """(neurons,) out entries of each neuron."""
        total = np.zeros(int(np.prod(self.cutters[name].grid)), dtype=np.int64)
        for target, i in self._from.get(name, ()):
            if target in self.cuts:
                key = (id(i.fan), self.cuts[target])
                if key not in self.memo:
                    self.memo[key] = i.fan, i.fan.reach(self.cuts[target])  # the fan is held, so that its id stays its
                total += self.memo[key][1] * self.entries
        return total

    def settle(self, names: set[str]) -> None:
        """Cuts these populations; partial sums of the same sources in the same places alike."""
        last: dict[str, bytes | None] = {}
        for _ in range(4):  # a cut adds axons to the layers before it, and with feedback to itself
            changed = False
            alike: dict[Hashable, Cut] = {}
            for name in (n for n in reversed(self.cutters) if n in names):
                cutter = self.cutters[name]
                leaving = self.of(name) if cutter.limits.axons_out is not None else None
                now = None if leaving is None else leaving.tobytes()
                if name not in last or now != last[name]:
                    kin = (self.stages.get(name), *(likeness(i.fan) for i in cutter.incoming))
                    near = alike.get(kin) if name in self.stages else None
                    key = (*cutter.key, near, now)
                    if key not in self.memo:
                        self.memo[key] = [i.fan for i in cutter.incoming], cutter.best(leaving, alike=near)
                    self.cuts[name] = self.memo[key][1]
                    alike[kin], last[name], changed = self.cuts[name], now, True
            if not changed:
                break


#: Pieces up to which those that talk are put on one core.
MOST_MOVED = 64
#: What pieces on one core share of its limits.
SHARED = ("compartments", "memory", "axons_in", "axons_out", "delay_slots")


def _numbered(
    layers: tuple[Layer, ...], cutters: Mapping[str, Cutter], leaving: Callable[[str], Ints], profile: Profile,
    like: Placement | None,
) -> tuple[Layer, ...]:
    """The layers with the cores of their pieces: those of `like`, or where layers may share cores, in as few as
    `packed` finds.

    On a shared core every synapse names its neuron among all that the core can hold, which can take more memory.
    """
    ends = np.cumsum([0, *(layer.cores for layer in layers)])
    at = np.arange(ends[-1])
    may = profile.topology.layers_share_cores
    most = profile.core.neurons.value
    if may is not None and may.value and most and ends[-1] > 1:
        wide = [cutters[x.name].loads(x.cut, leaving(x.name), most) for x in layers]
        caps = Limits.of(profile)
        names = [name for name in SHARED if getattr(caps, name) is not None]
        amounts = np.concatenate([np.stack([w[name] for name in names], axis=1) for w in wide])
        kinds = np.repeat([cutters[x.name].delay_bits for x in layers], np.diff(ends))
        alone = np.concatenate([w["longest"] for w in wide]) > (caps.longest or np.inf)
        room = np.array([getattr(caps, name) for name in names], dtype=np.int64)
        at = packed(amounts, room, kinds, alone) if like is None else np.concatenate([x.at for x in like.layers])
        if like is None and at.max() + 1 < len(at) <= MOST_MOVED:
            alone |= (amounts > room).any(axis=1)
            may = (kinds[:, None] == kinds[None]) & ~alone[:, None] & ~alone[None]
            each = np.split(np.arange(ends[-1]), ends[1:-1])
            own = [replace(x, at=part) for x, part in zip(layers, each, strict=True)]
            sent = traffic(own, len(at))
            at = in_order(closer(at, amounts, room, may, sent + sent.T))
        together = np.bincount(at)[at] > 1
        layers = tuple(
            replace(x, memory=np.where(here, w["memory"], x.memory), longest=np.where(here, w["longest"], x.longest))
            for x, w, here in zip(layers, wide, np.split(together, ends[1:-1]), strict=True))
    return tuple(replace(x, at=part) for x, part in zip(layers, np.split(at, ends[1:-1]), strict=True))
