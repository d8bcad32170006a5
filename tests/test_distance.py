"""Distances between spike trains and rates against their written-out formulas and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from neurocompress.errors import Refused
from neurocompress.verification import distance
from neurocompress.verification.distance import earth_movers, van_rossum


def kernel_matrix(steps: int, tau: float) -> np.ndarray:
    """M[t, s] = (1 - 1/tau)^(t - s) / tau for t >= s: the convolution with SBC's kernel, written out."""
    t = np.arange(steps)
    lag = t[:, None] - t[None, :]
    return np.where(lag >= 0, (1 - 1 / tau) ** np.maximum(lag, 0) / tau, 0.0)


@given(st.integers(1, 12), st.sampled_from([1.0, 1.5, 2.0, 20.0, 1000.0]), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_van_rossum_is_the_norm_of_the_filtered_difference(steps: int, tau: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, (2, 3, steps, 2, 2)).astype(np.uint8)
    m = kernel_matrix(steps, tau)
    want = np.linalg.norm(np.einsum("ts,ns...->nt...", m, a.astype(float))
                          - np.einsum("ts,ns...->nt...", m, b.astype(float)), axis=1)
    np.testing.assert_allclose(van_rossum(a, b, tau), want, rtol=1e-12, atol=1e-15)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).random((2, 7, 20, 5)) < 0.3
    whole = van_rossum(a, b, 8.0)
    monkeypatch.setattr(distance, "BLOCK_BYTES", 80)
    np.testing.assert_array_equal(van_rossum(a, b, 8.0), whole)
    assert whole.shape == (7, 5)
    assert not van_rossum(a, a, 8.0).any()


def test_a_shifted_spike_is_nearer_than_a_lost_one() -> None:
    a, shifted, lost = np.zeros((3, 1, 50, 1), np.uint8)
    a[0, 10] = shifted[0, 11] = 1
    assert 0 < van_rossum(a, shifted, 10.0).item() < van_rossum(a, lost, 10.0).item()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 99))
def test_earth_movers_equals_scipy(values: list[float], seed: int) -> None:
    a, b = np.array(values), np.random.default_rng(seed).random(len(values))
    assert earth_movers(a, b) == pytest.approx(wasserstein_distance(a, b), abs=1e-12)


def test_what_can_not_be_compared_is_refused() -> None:
    ok = np.zeros((1, 2, 3))
    with pytest.raises(Refused, match="shapes"):
        van_rossum(ok, ok[:, :1], 2.0)
    for tau in (0.5, float("nan"), float("inf")):
        with pytest.raises(Refused, match="tau"):
            van_rossum(ok, ok, tau)
    with pytest.raises(Refused, match="rates"):
        earth_movers(np.zeros(2), np.zeros(3))
