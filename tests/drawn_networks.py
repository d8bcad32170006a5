"""Networks drawn from seeds: every neuron, every convention, loops, delays, images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Output, Pool, Scale, Threshold


@st.composite
def rules(draw):
    many = draw(st.booleans())
    return Conventions(
        dt=1.0, decay=draw(st.sampled_from(["euler", "exponential"])),
        reset=draw(st.sampled_from(["zero", "subtract"])), fire=draw(st.sampled_from([">", ">="])),
        spikes_per_step="many" if many else "one", v_floor=draw(st.booleans()),
        two_phase_reset=not many and draw(st.booleans()), reset_delay=draw(st.booleans()),
        start=draw(st.sampled_from(["zero", "leak", "reset"])),
        gain=draw(st.sampled_from(["nir", "unit", "unit-synapse"])),
        input_decays=draw(st.booleans()), bias=draw(st.sampled_from(["current", "membrane"])),
        recurrent_bias_at_start=draw(st.booleans()), synaptic_delay=draw(st.integers(0, 2)),
        output_delay=draw(st.integers(0, 1)), weights=draw(st.sampled_from(["float", "int8-per-target"])))


def neuron(rng: np.random.Generator, n: int, kind: str) -> Neuron:
    parameters = {"r": rng.uniform(0.5, 2, n)}
    if "L" in kind:
        parameters |= {"tau_mem": rng.uniform(1.5, 9, n), "v_leak": rng.uniform(-0.2, 0.2, n)}
    if "Cuba" in kind:
        parameters |= {"tau_syn": rng.uniform(1.5, 9, n), "w_in": rng.uniform(0.5, 2, n)}
    if "F" in kind:
        parameters |= {"v_threshold": rng.uniform(0.3, 1, n), "v_reset": rng.uniform(-0.3, 0.1, n)}
    return Neuron((n,), **parameters)


def looped(rng: np.random.Generator, kind: str, rule: Conventions, out_kind: str = "LI") -> Network:
    """in -> fc -> a -> wait -> fc2 -> b -> out, with a -> slow -> rec -> a: delays in and outside of a loop.

    The bias of fc2 is zero, as a trained one may be before it is trained."""
    nodes = {
        "input": Input((4,)), "fc": Linear(rng.normal(size=(5, 4)), rng.normal(size=5) / 4),
        "a": neuron(rng, 5, kind), "slow": Delay(np.array([0.0, 2, 1, 0, 1])),
        "rec": Linear(rng.normal(size=(5, 5)) / 3, rng.normal(size=5) / 8), "wait": Delay(np.array([1.0, 0, 2, 0, 0])),
        "fc2": Linear(rng.normal(size=(3, 5)), np.zeros(3)), "b": neuron(rng, 3, out_kind),
        "output": Output((3,)),
    }
    chain = ["input", "fc", "a", "wait", "fc2", "b", "output"]
    edges = [*pairwise(chain), ("a", "slow"), ("slow", "rec"), ("rec", "a")]
    return Network(nodes, tuple(edges), rule)


def image(rng: np.random.Generator, kind: str, rule: Conventions) -> Network:
    """Convolution, neurons, pooling, a scale, flattened into thresholds."""
    flat = neuron(rng, 1, kind)
    shaped = {k: v.reshape(1, 1, 1) for k, v in vars(flat).items() if isinstance(v, np.ndarray)}
    nodes = {
        "input": Input((2, 5, 5)),
        "conv": Conv(rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4) / 4, (1, 1), ((1, 0), (1, 1)), (1, 1), 2),
        "a": Neuron((4, 4, 5), **shaped), "pool": Pool("average", (2, 2), (2, 2), ((0, 0), (0, 1))),
        "half": Scale(np.asarray(0.5)), "flat": Flatten(), "fc": Linear(rng.normal(size=(3, 24))),
        "t": Threshold(rng.uniform(-0.2, 0.5, 3)), "output": Output((3,)),
    }
    names = list(nodes)
    return Network(nodes, tuple(pairwise(names)), rule)
