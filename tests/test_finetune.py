"""Fine-tuning: zeros and grids that stay, the best epoch, the same bits for a seed, accuracy that comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from drawn_networks import looped
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import sem

from neurocompress.compression.finetuning.finetune import Constraint, finetune
from neurocompress.compression.finetuning.hidden_loss import Hidden
from neurocompress.compression.finetuning.model_selection import Judge, surely_lower
from neurocompress.compression.finetuning.output_loss import Goal, summed
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import GridRecipe, Recipe
from neurocompress.data import load_spikes
from neurocompress.data.calibration import CalibrationSet, held_out
from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network.conventions import PRESETS, Conventions
from neurocompress.network.graph import Network
from neurocompress.network.grid import Grid, Levels
from neurocompress.network.nodes import WEIGHTED, Input, Output
from neurocompress.simulation.float import simulate

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


pytestmark = pytest.mark.usefixtures("one_thread")


def digits(sparsity: float = 0.0, m_max: int | None = None) -> tuple[Network, dict[str, Constraint]]:
    """The digits network with its smallest weights gone, or rounded to a grid, and the constraints it now meets."""
    network = read(DIGITS / "digits.nir")
    constraints, changed = {}, {}
    for name in ("fc1", "fc2"):
        w = network.nodes[name].weight.astype(np.float64)
        mask = np.abs(w) >= np.quantile(np.abs(w), sparsity)
        w = w * mask
        grid = None
        if m_max is not None:
            step = np.abs(w).max(axis=1, keepdims=True) / m_max
            w = step * np.rint(w / step)
            grid = Grid(step, m_max)
        constraints[name] = Constraint(mask, grid)
        changed[name] = replace(network.nodes[name], weight=w.astype(np.float32))
    return network.with_nodes(changed), constraints


def calibration():
    return load_spikes(DIGITS / "digits_calibration.npz", (64,), need_labels=True)


def judged(spikes: np.ndarray, labels: np.ndarray | None = None) -> CalibrationSet:
    return CalibrationSet.of(spikes, 1, labels, 2)


def accuracy(network: Network) -> float:
    data = load_spikes(DIGITS / "digits_test.npz", (64,), need_labels=True)
    return 100 * float((simulate(network, data.spikes)["output"].sum(axis=1).argmax(axis=1) == data.labels).mean())


@pytest.mark.parametrize("from_teacher", [False, True])
def test_a_pruned_network_recovers_on_held_out_digits(from_teacher):
    """128 calibration digits bring back most of what pruning 85 % of the weights by magnitude lost."""
    damaged, constraints = digits(sparsity=0.85)
    data = calibration()
    tuned = (
        finetune(damaged, constraints, judged(data.spikes), teacher=read(DIGITS / "digits.nir"), epochs=20,
                 learning_rate=0.02)
        if from_teacher
        else finetune(damaged, constraints, judged(data.spikes, data.labels), epochs=20, learning_rate=0.02))
    assert accuracy(damaged) < 60
    assert accuracy(tuned) > 88
    what = "learning the original's outputs" if from_teacher else "fine-tuning"
    assert tuned.notes[-1].startswith(f"{what} on 116 samples, epoch ")
    for name, constraint in constraints.items():
        weight = tuned.nodes[name].weight
        assert np.all(weight[~constraint.mask] == 0)
        moved = (weight != damaged.nodes[name].weight)[constraint.mask]
        assert np.mean(moved) > 0.5  # all but those of pixels that are always dark
        assert weight.dtype == np.float32


@pytest.mark.parametrize("m_max", [1, 3])
def test_weights_end_on_the_grid_and_zeros_stay(m_max):
    damaged, constraints = digits(0.8, m_max)
    data = calibration()
    before = [layer.weight.copy() for layer in (damaged.nodes["fc1"], damaged.nodes["fc2"])]
    tuned = finetune(damaged, constraints, judged(data.spikes, data.labels), epochs=8, learning_rate=0.05)
    moved = 0
    for name, start in zip(("fc1", "fc2"), before, strict=True):
        c, weight = constraints[name], tuned.nodes[name].weight
        points = (np.arange(-m_max, m_max + 1) * c.grid.step[..., None]).astype(np.float32)
        assert np.all((weight[..., None] == points).any(axis=-1))
        assert np.all(weight[~c.mask] == 0)
        np.testing.assert_array_equal(damaged.nodes[name].weight, start)  # the network given is left alone
        moved += np.count_nonzero(weight != start)
    assert moved > 100


def test_a_layer_without_a_constraint_and_the_neurons_stay():
    damaged, constraints = digits(0.8)
    data = calibration()
    tuned = finetune(damaged, {"fc1": constraints["fc1"]}, judged(data.spikes, data.labels), epochs=2)
    assert tuned.nodes["fc1"] is not damaged.nodes["fc1"]
    assert all(tuned.nodes[n] is damaged.nodes[n] for n in damaged.nodes if n != "fc1")


def test_same_seed_same_bits_and_progress_to_the_end():
    damaged, constraints = digits(0.8)
    data, said = calibration(), []

    def weights(seed: int, **more) -> np.ndarray:
        tuned = finetune(damaged, constraints, judged(data.spikes, data.labels), epochs=2, seed=seed, **more)
        return np.concatenate([tuned.nodes[n].weight.ravel() for n in constraints])

    first = weights(3, progress=said.append)
    np.testing.assert_array_equal(first, weights(3))
    assert np.any(first != weights(4))
    assert said == sorted(said)
    assert said[-1] == 2 * 116


def test_parts_of_a_batch_add_up_to_its_gradient(monkeypatch):
    damaged, constraints = digits(0.8)
    data = calibration()
    whole = finetune(damaged, constraints, judged(data.spikes, data.labels), epochs=1)
    monkeypatch.setattr("neurocompress.compression.finetuning.finetune.BLOCK_BYTES", 5 * 4 * 128 * 32)  # five samples
    parts = finetune(damaged, constraints, judged(data.spikes, data.labels), epochs=1)
    for name in constraints:
        a, b = whole.nodes[name].weight, parts.nodes[name].weight
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(a).max())


def test_when_training_makes_it_worse_the_start_comes_back():
    network, data = read(DIGITS / "digits.nir"), calibration()
    constraints = {n: Constraint(np.ones(network.nodes[n].weight.shape, dtype=bool)) for n in ("fc1", "fc2")}
    tuned = finetune(network, constraints, judged(data.spikes, data.labels), epochs=1, learning_rate=10.0)
    assert all(tuned.nodes[n] is network.nodes[n] for n in network.nodes)
    assert "changed nothing" in tuned.notes[-1]


@settings(deadline=None, max_examples=8)
@given(st.sampled_from([n for n in PRESETS if n != "nir"]), st.integers(0, 2**32 - 1))
def test_every_platform_and_recurrence_learns_from_its_teacher(preset, seed):
    """Random recurrent networks: what fine-tuning returns is better in one way on the samples that chose it."""
    rng = np.random.default_rng(seed)
    rule = replace(PRESETS[preset], dt=1.0)
    teacher = looped(rng, "CubaLIF", rule, rng.choice(["LI", "LIF"]))
    layers = [n for n, node in teacher.nodes.items() if isinstance(node, WEIGHTED)]
    step = {n: np.abs(teacher.nodes[n].weight).max() / 3 for n in layers}
    grid = {n: Constraint(np.ones(teacher.nodes[n].weight.shape, dtype=bool), Grid(np.asarray(s), 3))
            for n, s in step.items()}
    damaged = teacher.with_nodes({
        n: replace(teacher.nodes[n], weight=grid[n].nearest(teacher.nodes[n].weight)) for n in layers})
    x = (rng.random((20, 10, 4)) < 0.4).astype(np.uint8)
    tuned = finetune(damaged, grid, judged(x), teacher=teacher, epochs=3, learning_rate=0.05)
    held = np.flatnonzero(held_out(20))
    goal, hidden = Goal.of(damaged, x, None, teacher, "cpu"), Hidden.of(damaged, teacher, x, "cpu")

    def losses(network: Network) -> list[np.ndarray]:
        found = simulate(network, x[held], tuple(hidden.decays))
        signals = {n: torch.from_numpy(found[n]).transpose(0, 1) for n in hidden.decays}
        inputs = torch.from_numpy(x[held]).transpose(0, 1).float()
        outputs = goal.loss(torch.from_numpy(summed(network, x[held], "cpu")), held)
        return [outputs.numpy(), hidden.loss(signals, inputs).numpy()]

    if "changed nothing" not in tuned.notes[-1]:
        assert any(map(surely_lower, losses(tuned), losses(damaged)))
    for n in layers:
        m = np.rint(tuned.nodes[n].weight / step[n])
        np.testing.assert_array_equal(tuned.nodes[n].weight, m * step[n])
        assert np.abs(m).max() <= 3


def test_losses_are_what_they_say():
    """Against plain formulas over three outputs, in float64."""
    rng = np.random.default_rng(0)
    network = looped(rng, "LIF", Conventions(dt=1.0), "LIF")
    x = (rng.random((4, 9, 4)) < 0.5).astype(np.uint8)
    counts = simulate(network, x)["output"].sum(axis=1).astype(np.float64)
    out = rng.integers(0, 9, (4, 3)).astype(np.float64)

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    labels, members = np.array([2, 0, 1, 1]), np.array([3, 1, 0, 2])
    entropy = -np.log(softmax(out / 2)[np.arange(4), labels[members]]).sum()
    p, q = softmax(counts[members] / 4), softmax(out / 4)
    divergence = 16 * (p * np.log(p / q)).sum()
    for wanted, goal in ((entropy, Goal.of(network, x, labels, None, "cpu")),
                         (divergence, Goal.of(network, x, None, network, "cpu")),
                         (entropy + divergence, Goal.of(network, x, labels, network, "cpu"))):
        np.testing.assert_allclose(float(goal.loss(torch.from_numpy(out), members).sum()), wanted, rtol=1e-6)
    # counts of hundreds: 16 logits for each spread of them against the teacher, twice as many against labels
    loud = replace(network, conventions=replace(network.conventions, spikes_per_step="many", reset="subtract"))
    loud = loud.with_nodes({"b": replace(loud.nodes["b"], v_threshold=loud.nodes["b"].v_threshold / 200)})
    counts, out = (simulate(loud, given)["output"].sum(axis=1).astype(np.float64) for given in (x, x[::-1]))
    spread = counts.std()
    assert spread > 100
    entropy = -np.log(softmax(out * 32 / spread)[np.arange(4), labels]).sum()
    p, q = softmax(counts * 16 / spread), softmax(out * 16 / spread)
    wanted = entropy + 16 * (p * np.log(p / q)).sum()
    found = Goal.of(loud, x, labels, loud, "cpu").loss(torch.from_numpy(out), np.arange(4)).sum()
    np.testing.assert_allclose(float(found), wanted, rtol=1e-5)
    out = rng.integers(0, 9, (4, 3)).astype(np.float64)
    calm = looped(rng, "LIF", Conventions(dt=1.0), "LI")
    potentials = simulate(calm, x)["output"].sum(axis=1).astype(np.float64)
    wanted = (9 / potentials.std() ** 2 * (out - potentials[members]) ** 2).sum() / 3
    found = Goal.of(calm, x, None, calm, "cpu").loss(torch.from_numpy(out), members).sum()
    np.testing.assert_allclose(float(found), wanted, rtol=1e-5)


def test_every_wrong_argument_is_named_at_once():
    damaged, constraints = digits(0.5, 1)
    data = calibration()
    fc1, fc2 = constraints["fc1"], constraints["fc2"]
    small = Network({"input": Input((2,)), "output": Output((2,))}, (("input", "output"),))
    wrong = {
        "fc1": Constraint(fc1.mask[:3]), "lif1": fc1, "nobody": fc1,
        "fc2": Constraint(fc2.mask, Grid(fc2.grid.step * 1.37, 1)),
    }
    with pytest.raises(Refused) as caught:
        finetune(damaged, wrong, judged(data.spikes[..., :5], data.labels[:7]), teacher=small, epochs=0, batch=0,
                 learning_rate=float("nan"))
    said = str(caught.value)
    for part in ("node 'fc1': the mask is bool of shape (3, 64)", "node 'lif1': a constraint needs a layer of weights",
                 "node 'nobody'", "node 'fc2': weights lie off", "Give spikes of shape (samples, timesteps, 64)",
                 "the labels are int64 of shape (7,)", "teacher's input has shape (2,)", "epochs is 0", "batch is 0",
                 "learning_rate is nan"):
        assert part in said, part
    assert len(caught.value.problems) == 11
    for labels, part in (
        (None, "Give labels, or the uncompressed network as teacher"),
        (data.labels + 5, "give labels from 0 to 9"),
        (data.labels.astype(float), "Give one integer for each"),
    ):
        with pytest.raises(Refused, match=part):
            finetune(damaged, constraints, judged(data.spikes, labels))
    with pytest.raises(Refused, match="Give at least 2"):
        finetune(damaged, constraints, judged(data.spikes[:1], data.labels[:1]))
    with pytest.raises(Refused, match="nothing would be trained"):
        finetune(damaged, {}, judged(data.spikes, data.labels))
    for step in (fc1.grid.step[:3], 0 * fc1.grid.step, fc1.grid.step * np.nan):
        with pytest.raises(Refused, match="Give steps that are not 0 and broadcast to"):
            finetune(damaged, {"fc1": Constraint(fc1.mask, Grid(step, 1))}, judged(data.spikes, data.labels))


def test_a_twos_complement_grid_with_mirrored_rows_and_even_steps_is_kept():
    damaged, _ = digits(0.8)
    data, node = calibration(), damaged.nodes["fc1"]
    w = node.weight.astype(np.float64)
    step = np.abs(w).max(axis=1, keepdims=True) / 4 * np.where(np.arange(128) % 2, 1.0, -1.0)[:, None]
    for grid in (Grid(step, 3, -4), Grid(np.abs(step), 6, stride=2)):
        constraint = Constraint(w != 0, grid)
        start = damaged.with_nodes({"fc1": replace(node, weight=constraint.nearest(w).astype(np.float32))})
        tuned = finetune(start, {"fc1": constraint}, judged(data.spikes, data.labels), epochs=8, learning_rate=0.1)
        weight = tuned.nodes["fc1"].weight
        m = np.rint(weight / step if grid.m_min is not None else weight / np.abs(step))
        np.testing.assert_array_equal(weight, (m * grid.step).astype(np.float32))
        assert m.min() >= grid.low
        assert m.max() <= grid.m_max
        assert not np.any(m % grid.stride)
        assert np.any(weight != start.nodes["fc1"].weight)


@pytest.mark.parametrize("levels", get_args(Levels))
def test_what_compression_returns_is_met_by_its_own_constraint(levels):
    """Every kind of grid: one shot, then fine-tuning, and the integers still lie in range."""
    network, data = read(DIGITS / "digits.nir"), calibration()
    recipe = Recipe(method="sbc", bits=4, sparsity=0.8, grid=GridRecipe(levels=levels))
    found = compress_network(network, data.spikes[:64], recipe)
    constraints = {name: Constraint.of(layer) for name, layer in found.layers.items()}
    tuned = finetune(found.network, constraints, judged(data.spikes, data.labels), epochs=3, learning_rate=0.05)
    for name, layer in found.layers.items():
        m = np.rint(tuned.nodes[name].weight / layer.step)
        np.testing.assert_array_equal(tuned.nodes[name].weight, (m * layer.step).astype(np.float32))
        assert layer.grid_range[0] <= m.min() <= m.max() <= layer.grid_range[1]
        assert not np.any(m[~layer.mask])
        assert levels != "even" or not np.any(m % 2)
    free = compress_network(network, data.spikes[:64], Recipe(method="sbc", sparsity=0.8))
    assert Constraint.of(free.layers["fc1"]).grid is None


@given(before=arrays(np.float64, 12, elements=st.floats(0, 10)), fell=arrays(np.float64, 12, elements=st.floats(-1, 2)))
def test_a_gain_within_a_standard_error_is_none(before, fell):
    after = before - fell
    fell = before - after  # as rounded
    gain, error = fell.mean(), sem(fell)
    assume(abs(gain - error) > 1e-9)
    assert surely_lower(after, before) == (gain > error)


def test_hidden_spikes_are_compared_as_membranes_filter_them():
    """Against loops over time in float64, in units of the variance over samples, steps and neurons."""
    rng = np.random.default_rng(1)
    network = looped(rng, "LIF", Conventions(dt=1.0), "LIF")
    x = (rng.random((6, 8, 4)) < 0.5).astype(np.uint8)
    hidden = Hidden.of(network, network, x, "cpu")
    assert hidden.decays
    assert not set(hidden.decays) & set(network.inputs_of(network.output))
    spikes = simulate(network, x, tuple(hidden.decays))
    other = {n: (rng.random(spikes[n].shape) < 0.3).astype(np.float32) for n in hidden.decays}

    def filtered(s: np.ndarray, beta: float) -> np.ndarray:
        out, v = np.zeros(s.shape), 0.0
        for t in range(s.shape[1]):
            v = v * beta + s[:, t]
            out[:, t] = v
        return out

    wanted = np.zeros(6)
    for n, beta in hidden.decays.items():
        node = network.nodes[n]
        assert beta == pytest.approx(float(np.mean(1 - 1.0 / node.tau_mem)))
        apart = filtered(other[n], beta) - filtered(spikes[n], beta)
        share = (apart**2).reshape(6, -1).mean(axis=1) / filtered(spikes[n], beta).var()
        wanted += share / len(hidden.decays)
    inputs = torch.from_numpy(x).transpose(0, 1).float()
    found = hidden.loss({n: torch.from_numpy(s).transpose(0, 1) for n, s in other.items()}, inputs)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)
    later = replace(network, conventions=replace(network.conventions, synaptic_delay=1))
    assert not Hidden.of(later, network, x, "cpu").decays


@given(st.integers(1, 400))
def test_held_out_samples_are_every_tenth_and_at_least_one(n):
    found = held_out(n)
    assert found.sum() == max(1, n // 10)
    assert n < 10 or np.all(np.diff(np.flatnonzero(found)) == 10)


@given(arrays(np.float64, (4, 6), elements=st.floats(0, 4)), st.booleans())
def test_the_epoch_kept_is_the_lowest_with_labels_and_the_last_sure_one_without(losses, labels):
    judge, best, kept = Judge(losses[0], labels), 0, losses[0].mean()
    for epoch, now in enumerate(losses[1:], 1):
        better = now.mean() < kept if labels else surely_lower(now, losses[0])
        if better:
            best, kept = epoch, now.mean()
        assert judge.better(now, epoch) == better
    assert judge.chosen == best
    assert ("changed nothing" in judge.note(3, 9)) == (best == 0)


def test_compression_never_sees_the_samples_that_judge_learning(monkeypatch):
    network, data = read(DIGITS / "digits.nir"), calibration()
    whole = []
    monkeypatch.setattr("neurocompress.compression.oneshot.finetuned",
                        lambda made, given, *more: whole.append(given) or made)
    made = compress_network(network, data.spikes, Recipe(method="sbc", sparsity=0.9, distill=3))
    alone = compress_network(network, data.spikes[~held_out(128)], Recipe(method="sbc", sparsity=0.9, distill=0))
    assert whole[0].spikes is data.spikes
    np.testing.assert_array_equal(whole[0].judges, held_out(128))
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(layer.weight, alone.layers[name].weight)
