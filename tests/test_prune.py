"""Pruning of a layer: exact counts, dead inputs, groups, fan-in limits and importance, against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_problems import SHARE, brute_force_obs, filtered_spikes, loss, on_support, problem, tensors

from neurocompress.compression.maths.hessian import damped
from neurocompress.compression.maths.ordering import removal_losses
from neurocompress.compression.maths.prune import prune
from neurocompress.compression.maths.support import admm, largest, spectrum
from neurocompress.compression.maths.supports import SUPPORTS, Choosing
from neurocompress.compression.methods import methods

NAMES = sorted(SUPPORTS)


def plain(seed: int, rows: int, d: int, dead: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """weight, Hessian without damping, and with the damping that `prune` adds."""
    weight, hessian = problem(seed, rows, d, dead, share=0.0)
    return weight, hessian, hessian + SHARE * np.diag(hessian).mean() * np.eye(d)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 99999), st.sampled_from(NAMES), st.integers(1, 6), st.integers(2, 12), st.integers(1, 9),
       st.integers(0, 2), st.data())
def test_each_block_keeps_exactly_its_number(seed, support, rows, first, second, dead, data):
    weight, hessian, used = plain(seed, rows, first + second, dead)
    keep = [data.draw(st.integers(0, rows * w)) for w in (first, second)]
    w, h = tensors(weight, hessian)
    found = prune(w, h[None], (first, second), keep, support=support)
    mask = found.mask.numpy()
    assert [int(mask[:, :first].sum()), int(mask[:, first:].sum())] == keep
    assert not found.weight.numpy()[~mask].any()
    assert found.dead == dead
    assert found.damping == SHARE
    expected = on_support(weight, used, mask)
    expected[:, :dead] = (weight * mask)[:, :dead]
    np.testing.assert_allclose(found.weight.numpy(), expected, rtol=1e-5, atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99999), st.integers(1, 5), st.integers(2, 16), st.floats(0.05, 0.95))
def test_obs_keeps_the_largest_losses_of_brute_force(seed, rows, d, sparsity):
    weight, hessian, used = plain(seed, rows, d)
    keep = max(1, round((1 - sparsity) * weight.size))
    losses = np.array([brute_force_obs(w, used, d)[0] for w in weight])
    found = prune(*tensors(weight, hessian[None]), (d,), (keep,)).mask.numpy()
    if keep < weight.size:  # single precision may swap what is equal to six digits
        assert losses[found].min() >= losses[~found].max() * (1 - 1e-4)


@pytest.mark.parametrize("support", SUPPORTS)
def test_inputs_that_never_spiked_go_first_smallest_weights_before(support):
    weight, hessian, _ = plain(1, 6, 20, dead=5)
    w, h = tensors(weight, hessian)
    if support != "magnitude":
        found = prune(w, h[None], (20,), (90,), support=support).mask.numpy()
        assert found[:, 5:].all()
        assert not found[:, :5].any()
    some = prune(w, h[None], (20,), (100,), support=support)
    mask = some.mask.numpy()
    if support != "magnitude":
        assert mask[:, 5:].all()
    kept, gone = np.abs(weight[:, :5][mask[:, :5]]), np.abs(weight[:, :5][~mask[:, :5]])
    assert kept.min() >= gone.max()
    np.testing.assert_array_equal(some.weight.numpy()[:, :5], (weight * mask)[:, :5])
    assert some.dead == 5


@pytest.mark.parametrize("support", SUPPORTS)
def test_without_any_spike_the_largest_weights_stay(support):
    weight = np.random.default_rng(0).normal(size=(4, 10))
    found = prune(torch.from_numpy(weight), torch.zeros((1, 10, 10), dtype=torch.float64), (10,), (12,),
                  support=support, fan_in=5)
    assert found.dead == 10
    mask = found.mask.numpy()
    assert 0 < mask.sum() <= 12
    assert mask.sum(1).max() <= 5
    np.testing.assert_array_equal(found.weight.numpy(), weight * mask)
    assert np.abs(weight[mask]).min() > np.median(np.abs(weight))


@pytest.mark.parametrize("support", ["magnitude", "obs", "admm"])
def test_groups_have_hessians_of_their_own_and_share_one_count(support):
    """Two groups of rows: against the same rows with a Hessian at a time."""
    (wa, ha, ua), (wb, hb, ub) = plain(1, 5, 14), plain(2, 5, 14)
    hb, ub = 3 * hb, 3 * ub
    weight, keep = np.concatenate([wa, wb]), 40
    found = prune(*tensors(weight, np.stack([ha, hb])), (14,), (keep,), support=support)
    mask = found.mask.numpy()
    assert mask.sum() == keep
    expected = np.concatenate([on_support(wa, ua, mask[:5]), on_support(wb, ub, mask[5:])])
    np.testing.assert_allclose(found.weight.numpy(), expected, rtol=1e-6, atol=1e-9)
    if support != "magnitude":
        losses = np.array([brute_force_obs(w, u, 14)[0] for w, u in [(w, ua) for w in wa] + [(w, ub) for w in wb]])
        np.testing.assert_array_equal(mask.ravel(), losses.ravel() >= np.sort(losses, axis=None)[-keep])


@pytest.mark.parametrize("support", ["obs", "admm"])
def test_rows_that_matter_more_keep_more(support):
    weight, hessian, used = plain(3, 8, 24)
    weight[4:] = weight[:4]  # the same rows twice, the second time a hundred times as important
    importance = np.array([0.02] * 4 + [2.0] * 4)
    found = prune(*tensors(weight, hessian[None]), (24,), (60,), support=support,
                  importance=torch.from_numpy(importance)).mask.numpy()
    assert (found[4:].sum(1) > found[:4].sum(1)).all()
    if support == "obs":
        losses = np.array([brute_force_obs(w, used, 24)[0] for w in weight]) * importance[:, None]
        np.testing.assert_array_equal(found.ravel(), losses.ravel() >= np.sort(losses, axis=None)[-60])
    weighted, unweighted = (
        float((loss(weight, on_support(weight, used, mask), used) * importance).sum())
        for mask in (found, prune(*tensors(weight, hessian[None]), (24,), (60,), support=support).mask.numpy()))
    assert weighted < unweighted


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99999), st.integers(1, 5), st.integers(2, 14), st.data())
def test_a_fan_in_limit_takes_the_inputs_that_obs_takes(seed, rows, d, data):
    weight, hessian, used = plain(seed, rows, d)
    limit = data.draw(st.integers(1, d))
    found = prune(*tensors(weight, hessian[None]), (d,), (weight.size,), fan_in=limit)
    for row, w in enumerate(weight):
        losses, _ = brute_force_obs(w, used, d - limit)
        np.testing.assert_array_equal(found.mask[row].numpy(), np.isinf(losses))
    np.testing.assert_allclose(found.weight.numpy(), on_support(weight, used, found.mask.numpy()), rtol=1e-5, atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99999), st.sampled_from(NAMES), st.integers(2, 6), st.integers(4, 14), st.data())
def test_a_fan_in_limit_after_sparsity_goes_on_from_the_refit(seed, support, rows, d, data):
    """Rows above the limit lose more inputs, by brute-force OBS on what sparsity left; the others keep theirs."""
    weight, hessian, used = plain(seed, rows, d)
    limit, keep = data.draw(st.integers(1, d - 1)), data.draw(st.integers(rows, weight.size - 1))
    w, h = tensors(weight, hessian)
    before = prune(w, h[None], (d,), (keep,), support=support).mask.numpy()
    found = prune(w, h[None], (d,), (keep,), support=support, fan_in=limit)
    start = on_support(weight, used, before)
    for row, kept in enumerate(before):
        index, expected = np.flatnonzero(kept), kept.copy()
        if len(index) > limit:
            losses, _ = brute_force_obs(start[row, index], used[np.ix_(index, index)], len(index) - limit)
            expected[index[np.isfinite(losses)]] = False
        np.testing.assert_array_equal(found.mask[row].numpy(), expected)
    np.testing.assert_allclose(found.weight.numpy(), on_support(weight, used, found.mask.numpy()), rtol=1e-5, atol=1e-8)


def test_a_fan_in_limit_is_not_spent_on_inputs_that_never_spiked():
    weight, hessian, _ = plain(6, 5, 16, dead=6)
    weight[:, :6] *= 50.0
    weight[:, 6:] *= 0.01
    for keep in (weight.size, weight.size - 7):
        mask = prune(*tensors(weight, hessian[None]), (16,), (keep,), fan_in=8).mask.numpy()
        assert (mask.sum(1) == 8).all()
        assert not mask[:, :6].any()
    mask = prune(*tensors(weight, hessian[None]), (16,), (weight.size,), fan_in=12).mask.numpy()
    assert mask[:, 6:].all()  # two of six dead ones stay, the largest
    for row, w in enumerate(np.abs(weight[:, :6])):
        assert set(np.flatnonzero(mask[row, :6])) == set(np.argsort(w)[-2:])


def test_a_hessian_that_can_not_be_inverted_is_damped_until_it_can_and_says_so():
    rng = np.random.default_rng(0)
    x = np.repeat(filtered_spikes(rng, 3, 50), 4, axis=1)  # inputs four times the same
    hessian = torch.from_numpy(2 * x.T @ x / 50)
    weight = torch.from_numpy(rng.normal(size=(3, 12)))
    found = prune(weight, hessian[None], (12,), (12,), how=Choosing(damping=1e-18))
    assert 1e-18 < found.damping < 1e-9
    assert torch.isfinite(found.weight).all()
    assert int(found.mask.sum()) == 12
    inverted, share = damped(hessian, 1e-18)
    assert share == found.damping
    added = inverted - hessian
    np.testing.assert_allclose(np.diag(added), share * np.diag(hessian).mean(), rtol=0.5)
    assert prune(weight, hessian[None], (12,), (12,), how=Choosing(damping=0.01)).damping == 0.01


def test_the_damping_is_a_share_of_the_mean_of_the_diagonal():
    _, hessian, used = plain(0, 1, 9, dead=4)
    (h,) = tensors(hessian)
    found, share = damped(h, SHARE)
    assert share == SHARE
    np.testing.assert_allclose(found.numpy(), used, rtol=1e-12)


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("fan_in", [None, 6])
def test_the_same_call_twice_gives_the_same_bits(support, fan_in):
    weight, hessian, _ = plain(8, 20, 90, dead=3)
    given_ = tensors(weight, hessian[None])
    one, two = (prune(*given_, (50, 40), (200, 100), support=support, fan_in=fan_in) for _ in range(2))
    assert torch.equal(one.mask, two.mask)
    assert torch.equal(one.weight, two.weight)


@pytest.mark.parametrize("support", SUPPORTS)
def test_what_a_choice_rests_on_can_be_found_once_for_many(support):
    weight, hessian, _ = plain(8, 6, 30, dead=3)
    w, h = tensors(weight, hessian[None])
    known = SUPPORTS[support](w, h, Choosing())
    for keep in (60, 20):
        once, again = (prune(w, h, (30,), (keep,), support=support, known=k) for k in (None, known))
        assert torch.equal(once.mask, again.mask)


@pytest.mark.parametrize(("sparsity", "most"), [(0.5, 1.05), (0.8, 1.02), (0.9, 1.0), (0.95, 1.0)])
def test_the_default_support_loses_at_most_what_the_papers_does(sparsity, most):
    """Loss of the layer over drawn problems at equal sparsity, in the median; magnitude without compensation is far."""
    ratios, plainly = [], []
    for seed in range(15):
        weight, hessian, used = plain(seed, 16, 48)
        keep = round((1 - sparsity) * weight.size)
        ours, paper, magnitude = (
            loss(weight, prune(*tensors(weight, hessian[None]), (48,), (keep,), support=methods()[name].support,
                               compensate=methods()[name].compensate).weight.numpy(), used).sum()
            for name in ("sbc", "sbc-paper", "magnitude"))
        ratios.append(ours / paper)
        plainly.append(magnitude / paper)
    assert np.median(ratios) <= most
    assert np.median(plainly) > 1.2


def scores_in_one_number(w, hessian, support, widths, keep, scale):
    """The priorities as sums of numbers of very different size: what never spiked times 1e-300, zeros 1e-290 above it;
    2 more on the support of ADMM."""
    live = hessian.diagonal(dim1=1, dim2=2).sum(0) > 0
    index = torch.nonzero(live)[:, 0]
    if support == "magnitude":
        return w.abs() * scale[:, None]
    if support == "admm" and len(hessian) == 1:
        inside = [int(block.sum()) for block in torch.split(live, list(widths))]
        room = [min(k, len(w) * n) for k, n in zip(keep, inside, strict=True)]
        score = w.abs() / (2 * float(w.abs().max()) or 1.0)
        of = spectrum(damped(hessian[0], SHARE)[0][index][:, index])
        score[:, index] += 2.0 * admm(w[:, index] * scale.sqrt()[:, None], of, inside, room)
        return score
    parts = []
    for part, h in zip(torch.split(w, len(w) // len(hessian)), hessian, strict=True):
        score = part.abs() * 1e-300
        inverse = torch.linalg.inv(damped(h, SHARE)[0][index][:, index]).to(torch.float32)
        score[:, index] = removal_losses(part[:, index], inverse).to(score.dtype) + 1e-290
        parts.append(score)
    return torch.cat(parts) * scale[:, None]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 99999), st.sampled_from(NAMES), st.integers(1, 2), st.integers(1, 5), st.integers(2, 9),
       st.integers(1, 6), st.integers(0, 4), st.data())
def test_an_order_in_words_is_the_order_that_one_number_gave(seed, support, groups, rows, first, second, dead, data):
    """Bit for bit: weights that are zero, equal weights, inputs that never spike, rows of no importance, two blocks,
    two groups."""
    rng = np.random.default_rng(seed)
    found = [plain(seed + g, rows, first + second, dead)[:2] for g in range(groups)]
    weight = np.concatenate([w for w, _ in found])
    if data.draw(st.booleans()):
        weight = np.rint(2 * weight) / 2  # zeros and ties
    importance = rng.choice([0.0, 0.25, 1.0, 3.0], size=groups * rows)
    keep = [data.draw(st.integers(0, groups * rows * n)) for n in (first, second)]
    w, h, scale = tensors(weight, np.stack([h for _, h in found]), importance)
    mask = prune(w, h, (first, second), keep, support=support, importance=scale).mask
    score = scores_in_one_number(w, h, support, (first, second), keep, scale)
    expected = [largest(s, k) for s, k in zip(torch.split(score, [first, second], 1), keep, strict=True)]
    if sum(keep) < w.numel():
        assert torch.equal(mask, torch.cat(expected, 1))
