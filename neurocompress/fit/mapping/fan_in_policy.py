"""A network as a chip is wired for it: what its fan-in policy makes of neurons with too many synapses.

    refuse  nothing: a rule reports them
    prune   the largest weights of each neuron stay (see `expected.limited`); compression chooses them by loss
    split   partial sums: extra populations of the same shape each sum a part of a neuron's synapses, and the neuron
            adds what they send. Every partial sum takes a neuron of a core and one axon and synapse of the core that
            gathers, and the sum arrives in the same step. Where more sources than a core's axons are heard, sums are
            split as well if that takes fewer cores. Assumed of Tianjic from Deng et al., IEEE JSSC 55(8):2228,
            2020 ("fan-in expansion" over several cores); no public text gives the width of what is sent
    join    ceil(fan-in / limit) neurons of the chip act as one (BrainScaleS-2: Pehle et al., Front. Neurosci.
            16:795876, 2022), each of them with an equal share of its synapses
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...chip.profile.memory_formulas import weight_and_index_bits
from ...chip.profile.schema import FanInPolicy, Profile
from ...network.connections import Connection
from ...network.graph import Network
from ...network.nodes import Shape
from .counts_of_matrix import MatrixFan
from .counts_of_partial_sums import GatherFan, parts_of
from .counts_of_sparse_kernel import ThinFan, channel_parts
from .partition import MOST_SYNAPSES, Cutter, Incoming, Limits, grid_of
from .synapse_counts import Cut, Fan, Format, Ints, sizes

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, eq=False)
class Wiring:
    """populations: shapes by name in order of computation, partial sums before the population that gathers them, the
    input left out. fans: counters of all connections. delays: steps beyond one, by id of the connection. joined:
    neurons of the chip that act as one, by population. stages: for partial sums, the population that gathers them."""

    populations: dict[str, Shape]
    fans: tuple[Fan, ...]
    delays: dict[int, int]
    joined: dict[str, int]
    stages: dict[str, str]


#: Partial sums of the connections into a population that were laid out before, by the fans they are made of.
Memo = dict[Hashable, "list[tuple[int, Sequence[Fan]]] | None"]


def wired(
    network: Network, fans: tuple[Fan, ...], delays: dict[int, int], profile: Profile, policy: FanInPolicy,
    whole: tuple[Fan, ...] | None = None, memo: Memo | None = None,
) -> Wiring:
    """fans: counters of the network's connections. whole: of the same connections with all their synapses, whose
    partial sums these are to be. memo: shared by calls for the same profile."""
    limit = profile.core.fan_in.value if profile.core.fan_in else None
    known: Memo = {} if memo is None else memo
    populations: dict[str, Shape] = {}
    made: list[Fan] = []
    joined: dict[str, int] = {}
    stages: dict[str, str] = {}
    after = dict(delays)
    for name in network.populations:
        at = [k for k, f in enumerate(fans) if f.connection.target == name]
        into, of = [fans[k] for k in at], [(whole or fans)[k] for k in at]
        most = most_synapses(into) if limit else 0
        if limit and most > limit and policy == "join":
            joined[name] = math.ceil(most / limit)
        cuts = None
        if limit and policy == "split":
            key = (*map(id, into), *map(id, of))
            if key not in known:
                known[key] = _sums(into, of, limit, profile)
            cuts = known[key]
        if cuts is not None:
            for old, (parts, sums_of) in zip(into, cuts, strict=True):
                if parts == 1:
                    made.append(old)
                for part, found in enumerate(sums_of):
                    stage = f"{name}/{old.connection.name}/{part + 1}of{parts}"
                    populations[stage], stages[stage] = network.shapes[name], name
                    sums = replace(found.connection, target=stage)
                    gathered = _gathering(old.connection, stage)
                    gathers = GatherFan(gathered, grid_of(gathered.target_shape))
                    made += [replace(found, connection=sums), gathers]  # type: ignore[type-var]
                    after |= {id(sums): delays[id(old.connection)], id(gathered): 0}
        else:
            made += into
        populations[name] = network.shapes[name]
    return Wiring(populations, tuple(made), after, joined, stages)


def _sums(into: list[Fan], of: list[Fan], limit: int, profile: Profile) -> list[tuple[int, Sequence[Fan]]] | None:
    """By connection its number of parts and their counters, none where it has one part; None where none is split."""
    cuts = _parts(of, limit, profile)
    if cuts is None or max(cuts, default=1) == 1:
        return None
    return [(n, _split(old.connection, n, limit, None if whole is old else whole.connection) if n > 1 else ())
            for old, whole, n in zip(into, of, cuts, strict=True)]


def most_synapses(into: list[Fan]) -> int:
    """Synapses of the neuron of a population that has most, all connections together."""
    return int(sum((f.fan_in() for f in into), np.zeros(1, dtype=np.int64)).max())


def _parts(into: list[Fan], limit: int, profile: Profile) -> list[int] | None:
    """Partial sums for each connection, 1 for those that go straight into the neurons; None where it can't be done
    (or is too large to lay out: then a rule reports it)."""
    each = [int(f.fan_in().max()) for f in into]
    if any(int(f.fan_in().sum()) > MOST_SYNAPSES for f in into):
        return None
    parts = [_fewest_cores(f, n, limit, profile) for f, n in zip(into, each, strict=True)]
    # what goes straight in takes its synapses, what is split one for each of its parts
    taken = [n if p == 1 else p for n, p in zip(each, parts, strict=True)]
    for k in sorted(range(len(each)), key=lambda k: -each[k]):
        if sum(taken) > limit and parts[k] == 1 and each[k] > 1:
            taken[k], parts[k] = 2, 2
    return parts if sum(taken) <= limit else None


def _fewest_cores(found: Fan, most: int, limit: int, profile: Profile) -> int:
    """The number of parts of a connection, 1 for none, that takes fewest cores by neurons and axons alone."""
    core, c = profile.core, found.connection
    axons, neurons = core.axons_in.value if core.axons_in else None, core.neurons.value
    least = max(1, math.ceil(most / limit))
    if least > 1 and by_channels(c) and (each := limit // math.prod(c.weight.shape[2:])):
        least = math.ceil(c.source_shape[0] / each)
    if not axons or not neurons:
        return least
    heard = int(np.count_nonzero(found.fan_out()))
    if least == 1 and heard <= axons:
        return 1
    tried = {least, math.ceil(heard / axons)} | ({_tiled(c, least, axons, neurons)} if c.kernel is not None else set())
    choices = sorted(p for p in tried if least <= p <= limit)
    if len(choices) < 2:
        return next(iter(choices), least)
    best, fewest = math.inf, 0
    for parts in reversed(choices):  # many parts are few cores, and the others are given up as soon as they are more
        cores = math.ceil(c.n_targets * max(parts / axons, 1 / neurons)) if parts > 1 else 0
        cuts: dict[Hashable, Cut] = {}
        for part in _split(c, parts, limit) if parts > 1 else [found]:
            cores += _cores(part, profile, best - cores, cuts)
            if cores > best:
                break
        else:
            best, fewest = cores, parts
    return fewest


def _cores(found: Fan, profile: Profile, enough: float, cuts: dict[Hashable, Cut]) -> int:
    """Cores for a part by neurons and axons alone; any larger number where they are more than `enough`. cuts: of parts
    before, by what makes them alike."""
    c, limits = found.connection, replace(Limits.of(profile), memory=None, longest=None, axons_out=None)
    cutter = Cutter(c.target_shape, (Incoming(found, Format(weight_and_index_bits, 1)),), 1, 0, 0, limits)
    cut = cutter.best(None, enough, cuts.get(likeness(found)))
    if sizes(cut).size <= enough:
        cuts[likeness(found)] = cut
    return int(sizes(cut).size)


def likeness(found: Fan) -> Hashable:
    """Parts for which this is the same hear as many sources, in the same places: what cuts one suits the other."""
    hears = found.weight.shape[1] if isinstance(found, ThinFan) else found.sources()
    return type(found), found.connection.n_targets, hears


def _tiled(c: Connection, least: int, axons: int, neurons: int) -> int:
    """Parts of a convolution, roughly: more of them have fewer source channels each, and a core that takes few
    channels takes more places of the image."""
    kernel, weight = c.kernel, np.asarray(c.weight)
    assert kernel is not None
    channels, (out, *places), spans = weight.shape[1], kernel.output_shape, weight.shape[2:]

    def cores(parts: int) -> float:
        each, best = math.ceil(channels / parts), math.inf
        for tile in range(1, max(places) + 1):
            reached = each * math.prod(min(n, (min(tile, m) - 1) * s + (k - 1) * d + 1) for n, m, s, k, d in zip(
                kernel.input_shape[1:], places, kernel.stride, spans, kernel.dilation, strict=True))
            if reached > axons:
                best = min(best, out * math.prod(places))  # at worst a core for each neuron
                break
            held = out * math.prod(min(tile, m) for m in places)
            best = min(best, math.prod(math.ceil(m / tile) for m in places) * math.ceil(held / neurons))
        return parts * best + c.n_targets * parts / axons

    return min(range(least, max(least, channels) + 1), key=cores)


def _split(
    c: Connection, parts: int, limit: int, whole: Connection | None = None
) -> Sequence[MatrixFan | ThinFan]:
    """Counters of the connection in parts of at most `limit` synapses for each neuron, sources in order: by channels
    of an image where that keeps the limit, so that neighbours share their sources; else of equal numbers of synapses.

    whole: the same connection with all its synapses, whose parts these shall be; itself without.
    """
    grid = grid_of(c.target_shape)
    if c.kernel is None and isinstance(c.weight, np.ndarray):
        return parts_of(replace(c, bias=None), grid, parts, limit, whole)
    if by_channels(c) and (whole is None or channel_parts(whole, parts, limit)) and (
            thin := channel_parts(c, parts, limit)):
        return thin
    csr, full = _sorted(c), _sorted(whole or c)
    per_row = np.diff(full.indptr).astype(np.int64)
    row = np.repeat(np.arange(full.shape[0]), per_row)
    part: Ints = full.indices.astype(np.int64) * c.source_shape[0] // c.n_sources * parts // c.source_shape[0]
    if np.bincount(row * parts + part, minlength=1).max() > limit:
        rank = np.arange(full.nnz) - np.repeat(full.indptr[:-1].astype(np.int64), per_row)
        part = rank * parts // np.maximum(per_row[row], 1)
    if whole is not None:  # of each synapse that is left
        left = np.repeat(np.arange(csr.shape[0], dtype=np.int64), np.diff(csr.indptr))
        place = np.searchsorted(row * c.n_sources + full.indices, left * c.n_sources + csr.indices)
        row, part = left, part[place]
    return [_part(c, csr, row, part == k, grid) for k in range(parts)]


def _part(c: Connection, csr: sparse.csr_array, row: Ints, inside: NDArray[np.bool_], grid: Shape) -> MatrixFan:
    """Some synapses of a sparse matrix. row: of each synapse."""
    from scipy import sparse

    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[inside], minlength=csr.shape[0]))])
    weight = sparse.csr_array((csr.data[inside], csr.indices[inside], indptr), shape=csr.shape)
    return MatrixFan(replace(c, weight=weight, kernel=None, bias=None), grid)


def _sorted(c: Connection) -> sparse.csr_array:
    """The matrix without zeros, columns in order."""
    found = c.matrix().copy()
    found.eliminate_zeros()
    found.sort_indices()
    return found


def by_channels(c: Connection) -> bool:
    """Whether each channel of the source is heard by every neuron, so that a part may take whole channels."""
    return c.kernel is not None and c.kernel.groups == 1 and c.kernel.output_shape == grid_of(c.target_shape)


def _gathering(c: Connection, stage: str) -> Connection:
    """One synapse from each partial sum into its neuron; it bears the name of the weights that were split."""
    from scipy import sparse

    eye = sparse.csr_array(sparse.eye_array(c.n_targets))
    return replace(c, source=stage, weight=eye, kernel=None, source_shape=c.target_shape, delay=0, feedback=False,
                   trained=False, repeats=1)
