"""How sparsity and bytes are shared out, against exact fractions, long sums and all shares there are."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_statistics import statistics

from neurocompress.compression.layerwise.loss_curves import KEPT_SHARES
from neurocompress.compression.maths.allocate import (
    Curve,
    Option,
    amplification,
    by_curves,
    kept,
    lamp,
    lamp_scores,
    temporal_lamp,
    uniform,
    within_budget,
)
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output

weights = st.lists(st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-30), min_size=1, max_size=12)


def exact_scores(layer: list[float]) -> list[Fraction]:
    """Each weight's square over the sum of its own and those of all that come after it in order of size."""
    order = sorted(range(len(layer)), key=lambda i: (abs(layer[i]), i))
    squares = [Fraction(layer[i]) ** 2 for i in order]
    scores = [Fraction(0)] * len(layer)
    for u, i in enumerate(order):
        if squares[u]:
            scores[i] = squares[u] / sum(squares[u:])
    return scores


@settings(deadline=None, max_examples=100)
@given(weights)
def test_lamp_scores_are_those_of_exact_fractions(layer):
    found = lamp_scores(np.array(layer))
    for score, exact in zip(found, exact_scores(layer), strict=True):
        assert score == pytest.approx(float(exact), rel=1e-13, abs=1e-300)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.lists(st.integers(1, 15), min_size=1, max_size=4), st.floats(0.0, 0.99))
def test_lamp_removes_the_lowest_scores_of_all_layers(seed, sizes, sparsity):
    rng = np.random.default_rng(seed)
    layers = {f"fc{k}": rng.normal(scale=10.0 ** rng.integers(-3, 4), size=n) for k, n in enumerate(sizes)}
    scored = sorted((-score, k) for k, w in enumerate(layers.values()) for score in exact_scores(w.tolist()))
    count = sum(sizes) - math.floor(Fraction(sparsity) * sum(sizes) + Fraction(1, 10**9))
    stays = [k for _, k in scored[:count]]
    assert lamp(layers, sparsity) == {n: max(1, stays.count(k)) for k, n in enumerate(layers)}


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_lamp_scores_do_not_depend_on_the_unit_of_the_weights(size):
    layer = np.random.default_rng(0).normal(size=(7, 9))
    np.testing.assert_allclose(lamp_scores(layer * size), lamp_scores(layer), rtol=1e-12)


def test_lamp_scores_of_sixty_orders_of_magnitude_in_one_layer():
    rng = np.random.default_rng(1)
    layer = 10.0 ** rng.uniform(-30, 30, 400) * rng.choice([-1, 1], 400)
    exact = [float(s) for s in exact_scores(layer.tolist())]
    np.testing.assert_allclose(lamp_scores(layer), exact, rtol=1e-13)


def test_lamp_scores_of_two_million_weights_are_those_of_exact_sums():
    """Where a running difference from the total would cancel: the largest weights, whose tails are short."""
    layer = np.random.default_rng(2).standard_cauchy(2_000_000).astype(np.float32)
    scores = lamp_scores(layer)
    order = np.argsort(np.abs(layer), kind="stable")
    squares = np.square(layer.astype(np.float64))[order]
    for u in (0, 1000, 1_000_000, 1_900_000, *range(1_999_990, 2_000_000)):
        assert scores[order[u]] == pytest.approx(squares[u] / math.fsum(squares[u:]), rel=1e-11)
    assert scores.max() == 1.0


def test_equal_weights_score_one_over_how_many_are_left():
    np.testing.assert_allclose(lamp_scores(np.full(50, -0.3)), 1 / np.arange(50, 0, -1), rtol=1e-13)


def test_weights_that_are_zero_already_go_first():
    layer = np.array([0.0, 1.0, 0.0, 2.0])
    assert (lamp_scores(layer)[[0, 2]] == 0).all()
    assert lamp({"a": layer, "b": np.ones(4)}, 0.25) == {"a": 2, "b": 4}


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10**6), st.integers(0, 999))
def test_the_number_of_zeros_is_rounded_down(size, thousandths):
    assert kept({"a": size}, thousandths / 1000) == size - size * thousandths // 1000


def test_uniform_keeps_the_same_share_of_every_layer():
    sizes = {"a": 10, "b": 1000, "c": 7}
    assert uniform(sizes, 0.9) == {"a": 1, "b": 100, "c": 1}
    assert uniform(sizes, 0.0) == sizes


def test_no_layer_loses_its_last_weight():
    """A layer whose scores are all above those of another at 99 %."""
    rng = np.random.default_rng(0)
    found = lamp({"wide": rng.normal(size=100_000), "narrow": rng.normal(size=10)}, 0.999)
    assert min(found.values()) >= 1
    assert temporal_lamp({"a": np.ones(5), "b": np.ones(500)}, {"a": 1e-9, "b": 1.0}, 0.9)["a"] == 1


def test_the_amplification_is_the_worst_step_over_the_mean_of_the_inputs():
    assert amplification(np.array([1.0, 5.0, 2.0]), np.array([1.0, 2.0, 3.0])) == 2.5
    assert amplification(np.zeros(3), np.zeros(3)) == 1.0  # no spikes say nothing


@pytest.mark.parametrize("tau_mem", [2.0, None])
def test_with_one_time_step_temporal_lamp_is_lamp(tau_mem):
    """Through calibration: at T = 1 a filter changes nothing, and the factor is exactly 1."""
    rng = np.random.default_rng(0)

    def neuron(n: int) -> Neuron:
        one = np.ones(n)
        return Neuron((n,), r=one, v_threshold=0.3 * one, v_reset=0 * one,
                      tau_mem=None if tau_mem is None else tau_mem * one, v_leak=None if tau_mem is None else 0 * one)

    nodes = {"input": Input((8,)), "a": Linear(rng.normal(size=(20, 8))), "n": neuron(20),
             "b": Linear(rng.normal(size=(5, 20))), "o": neuron(5), "output": Output((5,))}
    edges = (("input", "a"), ("a", "n"), ("n", "b"), ("b", "o"), ("o", "output"))
    network = Network(nodes, edges, Conventions(dt=1.0))
    layers = {n: nodes[n].weight for n in ("a", "b")}
    for steps in (1, 6):
        x = (rng.random((9, steps, 8)) < 0.6).astype(np.float32)
        energies = statistics(network, x).energies
        factors = {n: amplification(*energies[(n,)]) for n in layers}
        if steps == 1:
            assert factors == {"a": 1.0, "b": 1.0}
            assert all(temporal_lamp(layers, factors, s) == lamp(layers, s) for s in (0.1, 0.5, 0.9, 0.97))
        else:
            assert min(factors.values()) > 1.0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99999), st.floats(0.1, 10.0), st.floats(0.0, 0.95))
def test_temporal_lamp_weighs_the_scores_of_a_layer(seed, factor, sparsity):
    rng = np.random.default_rng(seed)
    layers = {"a": rng.normal(size=30), "b": rng.normal(size=50)}
    factors = {"a": factor, "b": 1.0}
    scores = np.concatenate([np.array(exact_scores(w.tolist()), dtype=float) * factors[n] for n, w in layers.items()])
    count = kept({"a": 30, "b": 50}, sparsity)
    stays = np.argsort(-scores, kind="stable")[:count] < 30
    found = temporal_lamp(layers, factors, sparsity)
    assert found == {"a": max(1, int(stays.sum())), "b": max(1, int((~stays).sum()))}


def curve(name: str, size: int, loss: np.ndarray, shares: tuple[float, ...] = KEPT_SHARES) -> Curve:
    keep = np.array([size, *(max(1, round(s * size)) for s in shares)], dtype=float)
    return Curve(keep, np.array([0.0, *loss]), {name: keep})


def power_law(size: int, slope: float, height: float) -> np.ndarray:
    """Losses at KEPT_SHARES that fall with a power of what stays, to 0 where all stay."""
    share = np.array(KEPT_SHARES)
    return height * size * (share**-slope - 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(200, 5000), st.floats(0.3, 3.0), st.floats(0.01, 100.0)), min_size=1, max_size=4),
       st.floats(0.5, 0.99))
def test_counts_by_loss_add_up_exactly(drawn, sparsity):
    curves = {(f"fc{k}",): curve(f"fc{k}", n, power_law(n, a, c)) for k, (n, a, c) in enumerate(drawn)}
    sizes = {f"fc{k}": n for k, (n, _, _) in enumerate(drawn)}
    keep = kept(sizes, sparsity)
    found = by_curves(curves, keep)
    assert sum(found.values()) == keep
    assert all(1 <= found[n] <= sizes[n] for n in sizes)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.integers(2, 4), st.floats(0.3, 0.99))
def test_equal_curves_share_equally(seed, layers, sparsity):
    """Whatever their shape: drawn losses that rise as weights go."""
    rise = np.sort(np.random.default_rng(seed).exponential(size=len(KEPT_SHARES))) + 1e-3
    curves = {(f"fc{k}",): curve(f"fc{k}", 1000, rise) for k in range(layers)}
    found = by_curves(curves, kept({"all": 1000 * layers}, sparsity))
    assert max(found.values()) - min(found.values()) <= layers


def interpolated(curve_: Curve, count: np.ndarray) -> np.ndarray:
    """Loss at other counts: straight between the points when both axes are logarithmic, and on beyond the last."""
    x, y = np.log(curve_.keep[::-1]), np.log(np.maximum(curve_.loss[::-1], 1e-3 * curve_.loss[1]))
    at = np.log(count)
    beyond = y[0] + (y[1] - y[0]) / (x[1] - x[0]) * (at - x[0])
    return np.exp(np.where(at < x[0], beyond, np.interp(at, x, y)))


slopes = st.floats(0.3, 3.0)


@settings(deadline=None, max_examples=40)
@given(slopes, slopes, st.floats(0.05, 20.0), st.integers(200, 1500), st.floats(0.3, 0.97), st.booleans())
def test_two_layers_share_as_well_as_all_shares_tried(slope, other, height, size, sparsity, everywhere):
    """With losses known at every count, which are convex, the best; interpolated ones may have kinks between points."""
    a, b = (
        curve(name, n, c * n * ((n / np.arange(n - 1.0, 0.0, -1.0)) ** p - 1), tuple(np.arange(n - 1, 0, -1) / n))
        if everywhere else curve(name, n, power_law(n, p, c))
        for name, n, p, c in (("a", 1000, slope, 1.0), ("b", size, other, height)))
    keep = kept({"a": 1000, "b": size}, sparsity)
    first = np.arange(max(1, keep - size), min(1000, keep - 1) + 1)
    total = interpolated(a, first) + interpolated(b, keep - first)
    found = by_curves({("a",): a, ("b",): b}, keep)
    assert sum(found.values()) == keep
    reached = float(interpolated(a, np.array(found["a"])) + interpolated(b, np.array(found["b"])))
    assert total.min() * (1 - 1e-9) <= reached <= total.min() * (1.002 if everywhere else 1.15)


def test_a_module_of_two_layers_splits_its_count_as_its_curve_says():
    """Feed-forward and recurrent weights of one population, and another population."""
    share = np.array([1.0, *KEPT_SHARES])
    joint = Curve(2000 * share, np.array([0.0, *power_law(2000, 1.0, 1.0)]), {"fc": 1500 * share, "rec": 500 * share})
    other = curve("out", 1000, power_law(1000, 1.0, 1.0))
    found = by_curves({("fc", "rec"): joint, ("out",): other}, 600)
    assert sum(found.values()) == 600
    assert found["fc"] == pytest.approx(3 * found["rec"], rel=0.05)
    assert found["out"] == pytest.approx(200, rel=0.05)


options = st.lists(st.lists(st.tuples(st.integers(1, 900), st.floats(0, 10)), min_size=1, max_size=4), min_size=1,
                   max_size=4)


@settings(deadline=None, max_examples=100)
@given(options, st.integers(1, 3600), st.sampled_from([1, 1000]))
def test_a_budget_is_kept_and_spent_as_well_as_all_choices_tried(drawn, budget, unit):
    """Exactly the best where a cell is a byte; with more bytes, at least the best with a cell less for each layer."""
    layers = {f"fc{k}": [Option(size * unit, lost) for size, lost in row] for k, row in enumerate(drawn)}
    choices = [(sum(layers[n][i].bytes for n, i in zip(layers, pick, strict=True)),
                sum(layers[n][i].loss for n, i in zip(layers, pick, strict=True)))
               for pick in itertools.product(*(range(len(row)) for row in drawn))]
    total = budget * unit
    found = within_budget(layers, total)
    cell = -(-total // 4096)
    sure = total if cell == 1 else total - cell * (len(layers) + 1)
    best = min((lost for size, lost in choices if size <= sure), default=None)
    if found is None:
        assert best is None
        return
    assert sum(layers[n][i].bytes for n, i in found.items()) <= total
    if best is not None:
        assert sum(layers[n][i].loss for n, i in found.items()) <= best + 1e-9
    if cell == 1:
        assert best is not None
