"""What the check calls fitting is mapped, and what is mapped breaks no rule: recounted from explicit matrices."""

from __future__ import annotations

import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tight_chips import chip, networks, neurons, profile

from neurocompress.chip.profile.load import Profile, load_profile
from neurocompress.fit.check import Fit, check_fit
from neurocompress.fit.mapping.chips_of_board import board, exchanged
from neurocompress.fit.mapping.counts_of_kernel import KernelFan
from neurocompress.fit.mapping.counts_of_sparse_kernel import ThinFan
from neurocompress.fit.mapping.layer import Layer
from neurocompress.fit.mapping.packing import closer, packed
from neurocompress.fit.mapping.synapse_counts import Fan
from neurocompress.fit.mapping.traffic import traffic
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Node, Output


def stored(fan: Fan) -> np.ndarray:
    """(targets, sources) 1 where a synapse is; zeros of a kernel included where it is stored as one."""
    c = fan.connection
    if c.kernel is not None and isinstance(fan, KernelFan) and not isinstance(fan, ThinFan):
        return np.asarray(c.kernel.matrix(np.ones(np.asarray(c.weight).shape)).toarray()) != 0
    return np.asarray(c.matrix().toarray()) != 0


def members(layer: Layer) -> np.ndarray:
    """(neurons,) the piece of each neuron, from the cut alone."""
    axes = [np.searchsorted(bounds, np.arange(bounds[-1]), side="right") - 1 for bounds in layer.cut]
    counts = [len(bounds) - 1 for bounds in layer.cut]
    found = np.zeros((), dtype=int)
    for at, n in zip(axes, counts, strict=True):
        found = np.add.outer(found * n, at) if found.ndim == 0 else found[..., None] * n + at
    return found.ravel()


def recounted(fit: Fit, there: Profile) -> dict[str, np.ndarray]:
    """What every core holds, from the matrices of what was placed."""
    layers = {x.name: x for x in fit.plan.placement.layers}
    each = fit.plan.profile.neurons_per_neuron(fit.plan.network.conventions.reset)
    used = {name: np.zeros(fit.cores, dtype=int) for name in ("neurons", "axons_in", "axons_out", "bits")}
    crossing = fit.cores > (there.topology.cores_per_chip.value or 0)
    entries = 2 if fit.chips > 1 and crossing else 1
    for layer in layers.values():
        piece, joined = members(layer), fit.plan.wiring.joined.get(layer.name, 1)
        np.add.at(used["neurons"], layer.at[piece], each * joined)
        shared = np.bincount(layer.at, minlength=fit.cores)
        for other in layers.values():
            shared += np.bincount(other.at, minlength=fit.cores) if other is not layer else 0
        for i in layer.incoming:
            synapse = stored(i.fan)
            for k in range(layer.cores):
                here = synapse[piece == k]
                heard = here.any(axis=0)
                used["axons_in"][layer.at[k]] += heard.sum()
                if i.connection.source in layers:
                    source = layers[i.connection.source]
                    np.add.at(used["axons_out"], source.at[members(source)[heard]], entries)
                if there.name != "loihi1":
                    told_apart = 14 if shared[layer.at[k]] > 1 else np.bincount(piece).max()
                    index = max(1, math.ceil(math.log2(max(1, told_apart))))
                    bits, late = i.form.bits, i.form.delay_bits
                    synapses = np.asarray(i.connection.matrix().toarray())[piece == k] != 0
                    dense = heard.sum() * (len(here) if i.connection.kernel is None else 0) * (bits + late)
                    sparse = synapses.sum() * (bits + late + index)
                    used["bits"][layer.at[k]] += min(dense, sparse) if i.connection.kernel is None else 0
    return used


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), name=st.sampled_from(["loihi1", "refuse", "prune", "split", "join"]),
       boards=st.integers(1, 2), pruned=st.booleans())
def test_what_fits_is_mapped_and_breaks_no_limit(
    network: Network, name: str, boards: int, pruned: bool
) -> None:
    found = chip(name)
    fit = check_fit(network, found, chips=boards, policy="prune" if name == "prune" and pruned else None)
    placement, core = fit.plan.placement, found.core
    assert fit.fewest_cores <= fit.cores
    on = np.concatenate([x.at for x in placement.layers])
    assert np.array_equal(np.unique(on), np.arange(fit.cores))  # every core holds something, and has a number
    for layer in placement.layers:
        count = np.bincount(members(layer), minlength=layer.cores)
        assert np.array_equal(count, layer.neurons)
        assert count.min() > 0
        assert count.sum() == math.prod(network.shapes[layer.population])
    whole(fit, network)
    if not fit.fits:
        return
    assert fit.plan.fewest_cores <= fit.cores
    assert fit.cores <= (found.topology.cores_per_chip.value or 0) * boards
    used = recounted(fit, found)
    for used_up, entry in (("neurons", core.neurons), ("axons_in", core.axons_in), ("axons_out", core.axons_out)):
        assert entry is not None
        assert entry.value is not None
        assert used[used_up].max() <= entry.value, used_up
        assert fit.utilization[used_up] == pytest.approx(used[used_up].max() / entry.value)  # all on one core
    assert used["bits"].max() <= (core.memory_bits or 0)
    if core.fan_in is not None:
        limit = core.fan_in.value or 0
        for layer in placement.layers:
            fan_in = sum(np.asarray((i.connection.matrix() != 0).toarray()).sum(axis=1) for i in layer.incoming)
            assert np.max(fan_in, initial=0) <= limit * fit.plan.wiring.joined.get(layer.name, 1)
    assert fit.board is not None
    assert np.bincount(fit.board.chip).max() <= (found.topology.cores_per_chip.value or 0)
    assert fit.board.chip.max() < boards


def whole(fit: Fit, network: Network) -> None:
    """Every synapse is in one partial sum or in none but its own connection; every partial sum is gathered once."""
    stages = fit.plan.wiring.stages
    for kept in (f.connection for f in fit.plan.fans):
        every = [f.connection for f in fit.plan.wiring.fans if f.connection.name == kept.name]
        parts = [c for c in every if stages.get(c.target, c.target) == kept.target and c.source == kept.source]
        assert np.array_equal(sum((p.matrix().toarray() for p in parts), np.zeros(())), kept.matrix().toarray())
        for p in parts:
            if p.target in stages:
                (gathered,) = [f.connection for f in fit.plan.wiring.fans if f.connection.source == p.target]
                assert gathered.target == kept.target
                assert np.array_equal(gathered.matrix().toarray(), np.eye(kept.n_targets))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), name=st.sampled_from(["loihi1", "split", "join"]))
def test_the_same_network_is_mapped_the_same_way(network: Network, name: str) -> None:
    first, second = (check_fit(network, chip(name), chips=2) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    for a, b in zip(first.plan.placement.layers, second.plan.placement.layers, strict=True):
        assert np.array_equal(a.at, b.at)
        assert a.cut == b.cut


def dense(*sizes: int) -> Network:
    nodes: dict[str, Node] = {"input": Input((sizes[0],))}
    for k, (a, b) in enumerate(pairwise(sizes)):
        nodes |= {f"w{k}": Linear(np.ones((b, a))), f"n{k}": neurons((b,))}
    nodes["output"] = Output()
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_dense_layers_take_the_fewest_cores_that_any_cut_and_packing_takes(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Limits: 16 neurons and 40 axons in on a core, shared. Every layer's pieces are as equal as can be."""
    few = profile(tmp_path_factory.mktemp("chip"), "few", {
        "core": {"neurons": 16, "axons_in": 64, "axons_out": 100000}})
    fit = check_fit(dense(*sizes), few)
    pieces: list[tuple[int, int]] = []
    for fan_in, n in pairwise(sizes):
        parts = -(-n // 16)
        pieces += [(round((k + 1) * n / parts) - round(k * n / parts), fan_in) for k in range(parts)]
    assert fit.cores <= fewest(pieces) + (len(pieces) > 12)


def fewest(pieces: list[tuple[int, int]]) -> int:
    """Cores for pieces of (neurons, axons), by trying everything that could be better than what is known."""
    best = len(pieces)

    def put(k: int, cores: list[list[int]]) -> None:
        nonlocal best
        if len(cores) >= best:
            return
        if k == len(pieces):
            best = len(cores)
            return
        n, axons = pieces[k]
        for core in {tuple(c): c for c in cores}.values():
            if core[0] + n <= 16 and core[1] + axons <= 64:
                core[0], core[1] = core[0] + n, core[1] + axons
                put(k + 1, cores)
                core[0], core[1] = core[0] - n, core[1] - axons
        put(k + 1, [*cores, [n, axons]])

    put(0, [])
    return best


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_few_pieces_are_packed_into_the_fewest_cores(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    amounts = np.array(data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=n, max_size=n)))
    limits, kinds = np.array([9, 9]), np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    at = packed(amounts, limits, kinds, np.zeros(n, dtype=bool))
    for core in range(at.max() + 1):
        assert (amounts[at == core].sum(axis=0) <= limits).all()
        assert len(set(kinds[at == core])) == 1
    least = min(
        len({(c, kinds[k]) for k, c in enumerate(tried)}) for tried in product(range(n), repeat=n)
        if all((amounts[[k for k in range(n) if (tried[k], kinds[k]) == key]].sum(axis=0) <= limits).all()
               for key in {(c, kinds[k]) for k, c in enumerate(tried)})) if n <= 5 else 0
    assert n > 5 or at.max() + 1 == least


def test_what_shares_with_none_stays_alone() -> None:
    amounts, limits = np.array([[1], [1], [12], [1]]), np.array([9])
    at = packed(amounts, limits, np.zeros(4, dtype=int), np.array([False, True, False, False]))
    assert at.tolist() == [0, 1, 2, 0]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), seed=st.integers(0, 99))
def test_spikes_between_cores_are_those_of_the_matrices(network: Network, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fit = check_fit(network, chip("refuse"))
    rates = {p: rng.random(math.prod(network.shapes[p])) for p in network.populations}
    layers = {x.name: x for x in fit.plan.placement.layers}
    wanted = np.zeros((fit.cores, fit.cores))
    for layer in layers.values():
        for i in layer.incoming:
            if i.connection.source in layers:
                source = layers[i.connection.source]
                for k in range(layer.cores):
                    for n in np.flatnonzero(stored(i.fan)[members(layer) == k].any(axis=0)):
                        wanted[source.at[members(source)[n]], layer.at[k]] += rates[source.name][n]
    np.testing.assert_allclose(traffic(fit.plan.placement.layers, fit.cores, rates), wanted)
    found = board(fit.plan.placement, 4, rates)
    assert found.messages == pytest.approx(wanted.sum())
    assert found.across_cores == pytest.approx(wanted.sum() - np.trace(wanted))
    apart = found.chip[:, None] != found.chip[None]
    assert found.across_chips == pytest.approx(wanted[apart].sum())
    in_order = np.arange(fit.cores) // 4
    assert found.across_chips <= wanted[in_order[:, None] != in_order[None]].sum() + 1e-6


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_moving_pieces_keeps_limits_and_never_adds_spikes_between_cores(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 9))
    amounts = np.array(data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=n, max_size=n)))
    limits, kinds = np.array([12, 12]), np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    weight = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n * n, max_size=n * n)), float).reshape(n, n)
    weight += weight.T
    before = packed(amounts, limits, kinds, np.zeros(n, dtype=bool))
    after = closer(before, amounts, limits, kinds[:, None] == kinds[None], weight)
    assert set(after) == set(before)
    for core in set(after):
        assert (amounts[after == core].sum(axis=0) <= limits).all()
        assert len(set(kinds[after == core])) == 1
    apart = [weight[at[:, None] != at[None]].sum() for at in (before, after)]
    assert apart[1] <= apart[0]


def test_pieces_that_talk_are_put_on_one_core() -> None:
    weight = np.zeros((4, 4))
    weight[0, 3] = weight[3, 0] = weight[1, 2] = weight[2, 1] = 1.0
    at = closer(np.array([0, 0, 1, 1]), np.full((4, 1), 5), np.array([10]), np.ones((4, 4), dtype=bool), weight)
    assert at[0] == at[3] != at[1] == at[2]


def test_cores_that_talk_are_put_on_one_chip() -> None:
    weight = np.zeros((8, 8))
    for a, b in ((0, 5), (1, 4), (2, 7), (3, 6)):
        weight[a, b] = weight[b, a] = 1.0
    chip = exchanged(np.array([0, 0, 0, 0, 1, 1, 1, 1]), weight, 4)
    assert weight[chip[:, None] != chip[None]].sum() == 0
    assert np.bincount(chip).tolist() == [4, 4]


@pytest.mark.parametrize(("name", "sentence"), [
    ("split", "Split its sums over 2 cores"), ("join", "Join 2 neurons of the chip to one"),
    ("refuse", "Prune to 8 synapses a neuron (--fan-in-policy prune)"),
])
def test_what_a_chip_can_do_about_fan_in_is_the_fix(name: str, sentence: str) -> None:
    network = dense(12, 5, 2)
    (violation,) = check_fit(network, chip(name), policy="refuse").violations
    assert violation.code == "NC207"
    assert violation.fix.startswith(sentence)
    assert check_fit(network, chip(name), **{"policy": "refuse", **violation.apply}).fits  # type: ignore[arg-type]


def test_connections_of_a_network_are_placed_without_its_matrices(shared: Path) -> None:
    from neurocompress.frontends.nir import read

    fit = check_fit(read(shared / "models/nir_paper/cnn/cnn_sinabs.nir"), load_profile("tianjic"))
    assert fit.fits
    assert fit.cores <= 156
    sums = {row.layer: row.partial_sums for row in fit.rows}
    assert sums["5"] > 1
    assert (sums["0"], sums["9"]) == (0, 2)
    assert len(connections(fit.plan.network)) == 5
