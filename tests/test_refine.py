"""Local search on integers: neurons that repeat their spikes, checked by simulation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from stage_statistics import model_of

from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.layerwise import spike_matching as refinement
from neurocompress.compression.layerwise.spike_matching import (
    EFFORT_EACH,
    EFFORT_NEURON,
    MARGIN,
    Decay,
    Target,
    constraints,
    refine,
)
from neurocompress.compression.layerwise.walk import compress
from neurocompress.compression.oneshot import RecipeGrids
from neurocompress.compression.recipe import recipe_of
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.network.conventions import Conventions
from neurocompress.network.discrete import discretize
from neurocompress.network.graph import Network
from neurocompress.network.grid import Grid
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate


@pytest.mark.parametrize("reset", ["zero", "subtract", "two-phase", "late subtract", "late zero"])
@pytest.mark.parametrize("tau_syn", [None, 3.0])
def test_refined_neurons_repeat_their_spikes(reset, tau_syn):
    """Constraints hold for the float weights; integers that satisfy them give the same spike train in simulation."""
    rng = np.random.default_rng(5)
    n, d, steps = 6, 10, 60
    weight, bias = rng.normal(0.1, 0.5, size=(n, d)), rng.normal(0, 0.05, size=n)
    one = np.ones(n)
    neuron = Neuron((n,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=5 * one, v_leak=0 * one,
                    tau_syn=None if tau_syn is None else tau_syn * one, w_in=None if tau_syn is None else one)
    rule = Conventions(dt=1.0, reset="zero" if "zero" in reset else "subtract", two_phase_reset=reset == "two-phase",
                       reset_delay="late" in reset)
    # gains of 1: the layer's numbers are in threshold units
    step = discretize(neuron, rule)
    gain = float(np.mean(step.input_gain))
    x = (rng.random((2, steps, d)) < 0.4).astype(np.float64)

    def network(w, b):
        nodes = {"input": Input((d,)), "fc": Linear(w / gain, b / gain), "n": neuron, "output": Output((n,))}
        return Network(nodes, (("input", "fc"), ("fc", "n"), ("n", "output")), rule)

    spikes = simulate(network(weight, bias), x, dtype=torch.float64)["output"]
    assert 0.05 < spikes.mean() < 0.9
    decay = Decay(None if tau_syn is None else 1 - 1 / tau_syn, 0.8)
    target = Target(x, spikes, bias, np.zeros(n), decay, rule.reset, rule.two_phase_reset,
                    rule.reset_delay and (rule.reset == "subtract" or tau_syn is not None))
    for j in range(n):
        a, b = constraints(target, j, weight[j])
        assert np.min(a[:, :d] @ weight[j] + b) >= -1e-9
    grid = Grid(np.abs(weight).max() / 31, 31)
    m, shift, left = refine(target, weight, grid.nearest(weight), np.broadcast_to(grid.step, (n, d)), 31, None, True)
    assert left == 0.0
    again = simulate(network(m * grid.step, bias + shift), x, dtype=torch.float64)["output"]
    np.testing.assert_array_equal(again, spikes)


def test_refined_integers_and_biases_belong_together():
    """What refinement says is still missed is what the weights and biases that come back miss, summed step by step."""
    rng, one = np.random.default_rng(2), np.ones(8)
    lif = Neuron((8,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=2 * one, v_leak=0 * one)
    nodes = {"input": Input((10,)), "fc": Linear(rng.normal(0.1, 0.9, size=(8, 10)), rng.uniform(0.3, 0.9, size=8)),
             "lif": lif, "output": Output((8,))}
    network = Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))
    spikes = (rng.random((3, 8, 10)) < 0.3).astype(np.float32)
    recipe = recipe_of(method="sbc", sparsity=0.25, bits=8)
    found = compress(model_of(network, spikes), recipe, RecipeGrids(recipe), decays={"lif": Decay(None, 0.5)})
    layer, before = found.layers["fc"], simulate(network, spikes)["output"]
    assert not np.allclose(layer.bias, network.nodes["fc"].bias)
    v, missed = np.zeros((3, 8)), 0.0
    for t in range(8):
        v = v / 2 + (spikes[:, t] @ layer.weight.T + layer.bias) / 2
        missed += np.maximum(MARGIN - (v - 1) * np.where(before[:, t] > 0, 1, -1), 0).sum()
        v[before[:, t] > 0] = 0.0
    assert layer.missed_by == pytest.approx(missed, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_all_that_refinement_looks_at_is_bounded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small populations whose spikes no grid keeps: 45 scales and starts were searched for each, minutes of them."""
    rng, sizes = np.random.default_rng(seed), (4, 6, 4, 3)
    nodes = {"input": Input((4,))}
    for k, (a, b) in enumerate(pairwise(sizes)):
        one = np.ones(b)
        nodes |= {f"fc{k}": Linear(rng.normal(0.1, 0.6, (b, a))),
                  f"n{k}": Neuron((b,), 10 * one, one, 0 * one, 10 * one, 0 * one)}
    nodes["output"] = Output((3,))
    network = Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0, reset="subtract" if seed % 3 else "zero"))
    spikes = (rng.random((40, 100, 4)) < 0.3).astype(np.uint8)
    looked, after = [0], refinement._Search._after

    def counted(self, value):
        before, found = self.effort, after(self, value)
        looked[0] += before - self.effort
        assert before - self.effort >= value.size
        return found

    monkeypatch.setattr(refinement._Search, "_after", counted)
    made = compress_for(network, load_profile("loihi2"), spikes, recipe_of(method="sbc"), bits=8)
    left = [layer.missed_by for layer in made.layers.values()]
    assert any(left)  # the searches did go on to their ends
    assert 0 < looked[0] <= sum(sizes[1:]) * EFFORT_EACH + 3 * EFFORT_NEURON
    assert all(missed is not None and missed < 5 for missed in left)
