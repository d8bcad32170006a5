"""The float simulator under autograd: the same spikes to the bit, and gradients that an independent loop confirms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_networks import image, looped, neuron, rules
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.compression.finetuning.finetune import SLOPE, surrogate
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import WEIGHTED, Input, Linear, Neuron, Output
from neurocompress.simulation.float import Runner, simulate
from neurocompress.simulation.learning import Learning
from neurocompress.simulation.stored import as_stored

KINDS = ["IF", "LIF", "CubaLIF"]


pytestmark = pytest.mark.usefixtures("one_thread")


def learned(network: Network, x: np.ndarray):
    """Outputs (samples, timesteps, *shape) of the pass under autograd in float64, and the weights it went through."""
    network = as_stored(network)
    weights = {
        name: (torch.tensor(node.weight, dtype=torch.float64, requires_grad=True),
               None if node.bias is None else torch.tensor(node.bias, dtype=torch.float64, requires_grad=True))
        for name, node in network.nodes.items() if isinstance(node, WEIGHTED)
    }
    runner = Runner(network, (network.output,), torch.float64, torch.device("cpu"),
                    learning=Learning(weights, surrogate))
    signals = runner.run(torch.tensor(np.swapaxes(x, 0, 1), dtype=torch.float64))
    return signals[network.output].transpose(0, 1), weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", [False, True])
@settings(deadline=None, max_examples=25)
@given(rule=rules(), seed=st.integers(0, 2**32 - 1))
def test_the_pass_under_autograd_is_the_simulator_to_the_bit(kind, picture, rule, seed):
    rng = np.random.default_rng(seed)
    network = image(rng, kind, rule) if picture else looped(rng, kind, rule, "CubaLIF")
    x = (rng.random((3, 12, *network.shapes["input"])) < 0.4).astype(np.float64)
    found, weights = learned(network, x)
    np.testing.assert_array_equal(found.detach().numpy(), simulate(network, x, dtype=torch.float64)["output"])
    found.sum().backward()
    assert all(w.grad is not None and bool(w.grad.isfinite().all()) for w, _ in weights.values())


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI"])
@pytest.mark.parametrize("bias", ["current", "membrane"])
@settings(deadline=None, max_examples=8)
@given(rule=rules(), seed=st.integers(0, 2**32 - 1))
def test_without_spikes_gradients_are_the_simulators_finite_differences(kind, bias, rule, seed):
    """Potentials are smooth in all weights and biases, those of a loop too."""
    rng = np.random.default_rng(seed)
    rule = replace(rule, weights="float", bias=bias)
    network = looped(rng, kind, rule, kind)
    x = rng.normal(size=(2, 7, 4))
    direction = rng.normal(size=(2, 7, 3))
    found, weights = learned(network, x)
    (found * torch.from_numpy(direction)).sum().backward()

    def value(changed) -> float:
        return float((simulate(network.with_nodes(changed), x, dtype=torch.float64)["output"] * direction).sum())

    for name, (weight, bias) in weights.items():
        node = network.nodes[name]
        for field, tensor in (("weight", weight), ("bias", bias)):
            towards = rng.normal(size=tensor.shape)
            plus, minus = (
                value({name: replace(node, **{field: getattr(node, field) + h * towards})}) for h in (1e-6, -1e-6))
            expected = (plus - minus) / 2e-6
            np.testing.assert_allclose(float((tensor.grad.numpy() * towards).sum()), expected,
                                       rtol=1e-5, atol=1e-5 * max(1.0, float(tensor.grad.abs().max())))


def scalar_layer(w: np.ndarray, node: Neuron, rule: Conventions, x: np.ndarray, seen: list | None = None):
    """One CubaLIF layer by the text of Conventions: sum over steps t of (t + 1) * output, and what was seen.

    With what an earlier run has seen, its spikes and what they reset to zero are kept and an output, and what is
    subtracted for it, is spikes + soft(distance) - soft(distance then): the function whose slope the surrogate is.
    """
    def soft(d):
        return d / (1 + SLOPE * np.abs(d))  # its derivative is 1 / (1 + SLOPE |d|)^2

    alpha, beta = (1 - 1 / t if rule.decay == "euler" else np.exp(-1 / t) for t in (node.tau_syn, node.tau_mem))
    gain = 1.0 if rule.gain == "unit" else node.r * (1 - beta)
    gain_syn = node.w_in * (1 - alpha) if rule.gain == "nir" else 1.0
    theta, reset = node.v_threshold, node.v_reset if rule.reset == "zero" else 0.0
    v, current, total, found = np.zeros(len(w)), np.zeros(len(w)), 0.0, []
    out, spikes = np.zeros(len(w)), np.zeros(len(w))
    v = v + {"zero": 0.0, "leak": node.v_leak, "reset": node.v_reset}[rule.start]
    for t, now in enumerate(x):
        above = v > theta if seen is None else seen[t]["above"]
        drive = gain_syn * (w @ now)
        current = alpha * (current + drive) if rule.input_decays else alpha * current + drive
        v = beta * v + gain * current + node.v_leak * (1 - beta)
        if rule.reset_delay:
            v = v - theta * out if rule.reset == "subtract" else np.where(spikes > 0, reset, v)
        two_phase = rule.two_phase_reset and rule.reset == "subtract" and not rule.reset_delay
        tested = v - theta * above if two_phase else v
        if rule.spikes_per_step == "many":
            u = tested / theta
            spikes = np.maximum(0, np.ceil(u) - 1 if rule.fire == ">" else np.floor(u))
            level = np.maximum(1, np.round(u)) if seen is None else seen[t]["level"]
            distance = u - level
        else:
            spikes = (tested > theta if rule.fire == ">" else tested >= theta).astype(float)
            level, distance = 1.0, (tested - theta) / np.abs(theta - reset)
        out = spikes
        if seen is not None:
            spikes = seen[t]["spikes"]
            out = spikes + soft(distance) - soft(seen[t]["distance"])
        total = total + (t + 1) * out
        if not rule.reset_delay:
            v = v - theta * out if rule.reset == "subtract" else np.where(spikes > 0, reset, v)
        floored = rule.v_floor & (v < -theta) if seen is None else seen[t]["floored"]
        v = np.where(floored, -theta, v)
        found.append({"spikes": spikes, "distance": distance, "above": above, "level": level, "floored": floored})
    return total, found


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("many", [False, True])
@settings(deadline=None, max_examples=20)
@given(rule=rules(), seed=st.integers(0, 2**32 - 1))
def test_surrogate_gradients_are_slopes_of_the_smoothed_scalar_loop(reset, many, rule, seed):
    rng = np.random.default_rng(seed)
    rule = replace(rule, weights="float", synaptic_delay=0, output_delay=0, reset=reset,
                   spikes_per_step="many" if many else "one", two_phase_reset=rule.two_phase_reset and not many)
    node = neuron(rng, 3, "CubaLIF")
    nodes = {"input": Input((4,)), "fc": Linear(rng.normal(size=(3, 4))), "n": node, "output": Output((3,))}
    network = Network(nodes, (("input", "fc"), ("fc", "n"), ("n", "output")), rule)
    x = (rng.random((15, 4)) < 0.5).astype(float)
    found, weights = learned(network, x[None])
    counted = found[0] * torch.arange(1, 16)[:, None]
    counted.sum().backward()
    w = nodes["fc"].weight
    total, seen = scalar_layer(w, node, rule, x)
    np.testing.assert_array_equal(counted.sum(0).detach().numpy(), total)
    towards = rng.normal(size=w.shape)
    plus, minus = (scalar_layer(w + h * towards, node, rule, x, seen)[0].sum() for h in (1e-6, -1e-6))
    gradient = weights["fc"][0].grad.numpy()
    np.testing.assert_allclose((gradient * towards).sum(), (plus - minus) / 2e-6, rtol=1e-4,
                               atol=1e-5 * max(1.0, np.abs(gradient).max()))
