"""Sums stay sums: a node of weights may have several inputs and feed several populations, and stays one."""

from __future__ import annotations

import numpy as np
import torch
from drawn_networks import image, looped, neuron, rules
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Output
from neurocompress.simulation.arriving import arriving
from neurocompress.simulation.float import batches
from neurocompress.simulation.stateless import operation


def summed_loop(rng: np.random.Generator, kind: str, rule: Conventions) -> Network:
    """in -> fc -> a, with `shared` fed by a, by b and by itself through b: what it is given closes a loop."""
    nodes = {
        "input": Input((4,)), "fc": Linear(rng.normal(size=(5, 4)), rng.normal(size=5) / 4), "a": neuron(rng, 5, kind),
        "shared": Linear(rng.normal(size=(5, 5)) / 2, rng.normal(size=5) / 8), "b": neuron(rng, 5, kind),
        "output": Output((5,)),
    }
    edges = (("input", "fc"), ("fc", "a"), ("a", "shared"), ("b", "shared"), ("shared", "b"), ("b", "output"))
    return Network(nodes, edges, rule)


@settings(deadline=None, max_examples=60)
@given(rules(), st.sampled_from(["IF", "LIF", "CubaLIF"]), st.sampled_from([looped, image, summed_loop]),
       st.integers(0, 999))
def test_what_a_node_is_given_is_what_the_simulator_gives_it(rule, kind, make, seed):
    """Every node without memory, applied to what it is given, sends what it sent in the run."""
    rng = np.random.default_rng(seed)
    rule = Conventions(**(vars(rule) | {"weights": "float"}))
    network = make(rng, kind, rule)
    spikes = (rng.random((3, 6, *network.shapes[network.input])) < 0.4).astype(np.uint8)
    (signals,) = batches(network, spikes, network.nodes, dtype=torch.float64)
    for name, node in network.nodes.items():
        if isinstance(node, Linear):
            x = arriving(network, name, signals)
            steps, batch = x.shape[:2]
            sent = operation(name, node, torch.float64, torch.device("cpu"), None)(x.reshape(steps * batch, -1))
            torch.testing.assert_close(sent.reshape(signals[name].shape), signals[name], rtol=1e-9, atol=1e-9)
