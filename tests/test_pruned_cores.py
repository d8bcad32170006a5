"""Zeros never cost a core: a pruned network takes no more of them than with its zeros stored, on any chip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tight_chips import chip, networks, neurons

from neurocompress.chip.profile.load import Profile, load_profile, profile_names
from neurocompress.fit.check import Fit, check_fit
from neurocompress.fit.mapping.partition import Limits
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import WEIGHTED, Conv, Flatten, Input, Linear, Node, Output
from neurocompress.network.shapes import output_shape

#: Sparsities that are held against none.
LADDER = (0.0, 0.3, 0.5, 0.8, 0.95)


def stored(network: Network) -> Network:
    """The network with every zero a small weight."""
    return network.with_nodes({
        name: replace(node, weight=np.where(node.weight == 0, 1e-3, node.weight))
        for name, node in network.nodes.items() if isinstance(node, WEIGHTED)})


def within(fit: Fit, profile: Profile) -> bool:
    """Whether every piece keeps the limits of a core: then it can be placed like this."""
    limits = [(name, most) for name, most in vars(Limits.of(profile)).items() if most is not None]
    return all(int(getattr(x, name).max(initial=0)) <= most for x in fit.plan.placement.layers for name, most in limits)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), name=st.sampled_from(["refuse", "prune", "split", "join", "loihi1", *profile_names()]),
       sparsity=st.sampled_from(LADDER), boards=st.integers(1, 2))
def test_a_pruned_network_takes_no_more_cores_than_with_its_zeros_stored(
    network: Network, name: str, sparsity: float, boards: int
) -> None:
    there = chip(name) if name in ("refuse", "prune", "split", "join", "loihi1") else load_profile(name)
    whole = check_fit(stored(network), there, chips=boards)
    pruned = check_fit(network, there, sparsity=sparsity, chips=boards)
    assert pruned.fewest_cores <= pruned.cores
    if within(whole, there):
        assert pruned.cores <= whole.cores
        assert within(pruned, there)
        if whole.fits:
            assert pruned.fits


def images(seed: int, channels: tuple[int, ...], side: int, out: int) -> Network:
    """Convolutions of stride 2 behind one another, and a matrix."""
    rng = np.random.default_rng(seed)
    nodes: dict[str, Node] = {"input": Input((2, side, side))}
    edges, last, shape = [], "input", (2, side, side)
    for k, c in enumerate(channels):
        node = Conv(rng.normal(size=(c, shape[0], 3, 3)), None, (2, 2), ((1, 1), (1, 1)), (1, 1))
        shape = output_shape(node, shape)
        nodes |= {f"conv{k}": node, f"n{k}": neurons(shape)}
        edges += [(last, f"conv{k}"), (f"conv{k}", f"n{k}")]
        last = f"n{k}"
    nodes |= {"flat": Flatten(), "fc": Linear(rng.normal(size=(out, int(np.prod(shape))))), "m": neurons((out,)),
              "output": Output((out,))}
    edges += [(last, "flat"), ("flat", "fc"), ("fc", "m"), ("m", "output")]
    return Network(nodes, tuple(edges), Conventions(dt=1.0))


@pytest.mark.parametrize("target", ["tianjic", "truenorth", "loihi1", "loihi2", "spinnaker2"])
@pytest.mark.parametrize(("channels", "side"), [((32, 64), 16), ((24, 40, 80), 20), ((16, 300), 10)])
def test_images_take_no_more_cores_the_more_zeros_they_have(target: str, channels: tuple[int, ...], side: int) -> None:
    network, profile = images(1, channels, side, 11), load_profile(target)
    found = [check_fit(network, profile, sparsity=s, chips=8) for s in LADDER]
    if within(found[0], profile):
        assert max(f.cores for f in found) == found[0].cores


def test_partial_sums_of_a_pruned_network_hold_every_synapse_once() -> None:
    """Wired as with its zeros stored: the parts of every connection are its pruned weights, no more and no less."""
    network = images(2, (24, 40), 12, 11)
    plan = check_fit(network, load_profile("tianjic"), sparsity=0.6, chips=8).plan
    for wires in (plan._own, plan._like):
        for kept in (f.connection for f in plan.fans):
            parts = [f.connection for f in wires.fans if f.connection.name == kept.name
                     and f.connection.source == kept.source]
            total = sum(p.matrix().toarray() for p in parts)
            np.testing.assert_array_equal(total, kept.matrix().toarray())


def test_the_reported_network_takes_as_many_cores_with_zeros_as_without(shared: Path) -> None:
    from neurocompress.frontends.nir import read

    network, tianjic = read(shared / "faults/networks/conv3_64x64.nir"), load_profile("tianjic")
    cores = [check_fit(network, tianjic, sparsity=s, chips=6).cores for s in (0.0, 0.3, 0.5, 0.8)]
    assert cores[0] <= 842
    assert max(cores) == cores[0]
