"""H of layers against explicit filter matrices and patches, whole and with windows drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calibrate import kernel_matrix, lif

from neurocompress.compression.maths import correlation, hessian
from neurocompress.compression.maths.correlation import add_products, assemble, empty_sums, places_first, plan
from neurocompress.compression.maths.hessian import (
    Given,
    Hessian,
    drawn_windows,
    filtered,
    patches,
    patches_at,
    windows_of,
)
from neurocompress.network.conventions import Conventions
from neurocompress.network.discrete import discretize
from neurocompress.network.nodes import Conv

NEURONS = {"LIF": (None, 4.0), "IF": (None, None), "CubaLIF": (2.0, 3.0)}  # tau_syn, tau_mem
WAYS = ("patches", "correlations")


@contextmanager
def always(way: str, rows_max: int = 10**9) -> Iterator[None]:
    """One of both ways, however much work it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correlation, "CALL", 0 if way == "correlations" else float("inf"))
        patch.setattr(hessian, "COPY", 1e18 if way == "correlations" else 0)
        patch.setattr(hessian, "ROWS_MAX", rows_max)
        yield


def conv(channels: int, kernel: tuple[int, ...], *, stride: int = 1, padding: tuple[tuple[int, int], ...] | None = None,
         dilation: int = 1, groups: int = 1) -> Conv:
    n = len(kernel)
    return Conv(np.zeros((groups, channels // groups, *kernel)), None, (stride,) * n, padding or ((0, 0),) * n,
                (dilation,) * n, groups)


def literal_windows(x: np.ndarray, node: Conv) -> np.ndarray:
    """(channels, *spatial) -> (groups, windows, d), number by number."""
    channels, *sizes = x.shape
    kernel, per_group = node.weight.shape[2:], channels // node.groups
    places = [range((n + sum(pad) - d * (k - 1) - 1) // s + 1) for n, pad, k, d, s in
              zip(sizes, node.padding, kernel, node.dilation, node.stride, strict=True)]
    found = []
    for group in range(node.groups):
        rows = []
        for place in product(*places):
            row = []
            for channel in range(group * per_group, (group + 1) * per_group):
                for tap in product(*(range(k) for k in kernel)):
                    at = [w * s + p * d - pad[0] for w, s, p, d, pad in
                          zip(place, node.stride, tap, node.dilation, node.padding, strict=True)]
                    inside = all(0 <= a < n for a, n in zip(at, sizes, strict=True))
                    row.append(x[(channel, *at)] if inside else 0.0)
            rows.append(row)
        found.append(rows)
    return np.array(found)


def rows_of(x: np.ndarray, m: np.ndarray, node: Conv | None) -> np.ndarray:
    """M X in double precision of x (timesteps, batch, ...): (groups, timesteps x batch x windows, d)."""
    mx = np.einsum("ts,sb...->tb...", m, x.astype(np.float64))
    if node is None:
        return mx.reshape(1, -1, mx.shape[-1])
    return np.concatenate([literal_windows(mx[t, b], node) for t, b in np.ndindex(mx.shape[:2])], axis=1)


def literal(left: list[np.ndarray], right: list[np.ndarray]) -> np.ndarray:
    """2 E[left^T right] of the layers' rows side by side."""
    a, b = np.concatenate(left, axis=2), np.concatenate(right, axis=2)
    return 2 * np.einsum("gni,gnj->gij", a, b) / a.shape[1]


def close(found: torch.Tensor, expected: np.ndarray, relative: float) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=relative * np.abs(expected).max())


LAYERS = {
    "Linear": (None, (5,)),
    "1-D": (conv(3, (3,), padding=((1, 1),)), (3, 9)),
    "1-D, stride, dilation": (conv(2, (3,), stride=2, padding=((2, 1),), dilation=2), (2, 10)),
    "2-D": (conv(3, (3, 3), padding=((1, 1), (1, 1))), (3, 5, 6)),
    "no padding": (conv(2, (2, 3)), (2, 5, 6)),
    "stride": (conv(2, (3, 3), stride=2, padding=((1, 1), (1, 1))), (2, 7, 6)),
    "uneven padding, dilation": (conv(2, (3, 2), padding=((0, 3), (2, 1)), dilation=2), (2, 5, 6)),
    "groups": (conv(4, (3, 3), padding=((1, 1), (1, 1)), groups=2), (4, 4, 5)),
    "depthwise, stride": (conv(3, (2, 2), stride=2, groups=3), (3, 4, 6)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("neuron", NEURONS)
def test_the_hessian_is_that_of_an_explicit_filter_matrix(neuron: str, layer: str, way: str) -> None:
    """H, the cross term and the bias's part, over two batches of different sizes, to 1e-6."""
    node, shape = LAYERS[layer]
    tau_syn, tau_mem = NEURONS[neuron]
    step, steps = discretize(lif((1,), tau_mem, tau_syn), Conventions(dt=1.0)), 12
    m = kernel_matrix(None if tau_syn is None else 1 - 1 / tau_syn, 1.0 if tau_mem is None else 1 - 1 / tau_mem, steps)
    rng = np.random.default_rng(0)
    groups = 1 if node is None else node.groups
    d = shape[0] if node is None else int(np.prod(node.weight.shape[1:]))
    own, cross = Hessian(d, groups), Hessian(d, groups)
    before, after = ((rng.random((steps, 5, *shape)) < p).astype(np.float32) for p in (0.4, 0.3))
    one = filtered(torch.ones(steps, 1), step).flatten()
    with always(way):
        for part in (slice(0, 3), slice(3, 5)):
            x, y = ([Given(filtered(torch.from_numpy(s[:, part]), step), node)] for s in (before, after))
            own.add(y, first=part.start, constant=one)
            cross.add(x, y, first=part.start, constant=one)
    x, y = ([rows_of(s, m, node)] for s in (before, after))
    close(own.mean(), literal(y, y), 1e-6)
    close(cross.mean(), literal(x, y), 1e-6)
    windows = x[0].shape[1] // (steps * 5)
    drive = np.repeat(m.sum(axis=1), 5 * windows)[None, :, None].repeat(groups, axis=0)
    for found, rows in ((own, y), (cross, x)):
        close(found.bias().drive[:, None], literal([drive], rows), 1e-6)
        assert found.bias().unit == pytest.approx(2 * np.mean(drive**2), rel=1e-6)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_without_patches_h_is_that_of_patches(data: st.DataObject) -> None:
    """Any layers of stride 1 that share their windows, H and cross terms, in double precision to 1e-12."""
    axes = data.draw(st.integers(1, 2))
    groups, windows = data.draw(st.integers(1, 3)), [data.draw(st.integers(1, 6)) for _ in range(axes)]
    layers, shapes = [], []
    for _ in range(data.draw(st.integers(1, 3))):
        kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(axes))
        dilation = tuple(data.draw(st.integers(1, 3)) for _ in range(axes))
        padding = tuple((data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))) for _ in range(axes))
        size = [w + d * (k - 1) - sum(pad) for w, d, k, pad in zip(windows, dilation, kernel, padding, strict=True)]
        padding = tuple(pad if n > 0 else (0, 0) for n, pad in zip(size, padding, strict=True))
        size = [w + d * (k - 1) - sum(pad) for w, d, k, pad in zip(windows, dilation, kernel, padding, strict=True)]
        each = data.draw(st.integers(1, 2))
        layers.append(Conv(np.zeros((groups, each, *kernel)), None, (1,) * axes, padding, dilation, groups))
        shapes.append((groups * each, *size))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, y = ([torch.from_numpy(rng.normal(size=(2, 3, *shape))) for shape in shapes] for _ in range(2))
    assert all(windows_of(Given(s, node)) == tuple(windows) for s, node in zip(x, layers, strict=True))
    rows = [torch.cat([patches(s.flatten(0, 1), node).unflatten(1, (groups, -1)) for s, node in
                       zip(signals, layers, strict=True)], dim=2).transpose(0, 1) for signals in (x, y)]
    sizes = [shape[1:] for shape in shapes]
    for right, symmetric in ((x, True), (y, False)):
        how = plan(layers, sizes, tuple(windows), symmetric)
        first, second = ([places_first(s, groups) for s in signals] for signals in (x, right))
        d = rows[0].shape[2]
        found = torch.zeros(groups, d, d, dtype=torch.float64)
        sums = empty_sums(how)
        add_products(how, sums, first, second)
        assemble(how, sums, found)
        expected = rows[0].transpose(1, 2) @ (rows[0] if symmetric else rows[1])
        close(found, expected.numpy(), 1e-12)


def test_a_kernel_of_three_by_three_takes_a_seventh_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """13 offsets for 81 pairs of taps, less what is padded; all 25 for a cross term."""
    for name in ("CALL", "READ", "LAYOUT"):
        monkeypatch.setattr(correlation, name, 0)
    node, rows, size = conv(8, (3, 3), padding=((1, 1), (1, 1))), 10, 16
    own, cross = (plan([node], [(size, size)], (size, size), s).work(rows) / (rows * 8 * 8) for s in (True, False))
    half = [offset for offset in product(range(-2, 3), repeat=2) if offset >= (0, 0)]
    assert len(half) == 13
    assert own == sum((size - abs(i)) * (size - abs(j)) for i, j in half)
    assert cross == (size + 2 * (size - 1) + 2 * (size - 2)) ** 2
    assert own < 81 * size * size / 7


@pytest.mark.parametrize(("channels", "size", "stride", "exact"), [
    (256, 8, 1, True), (512, 2, 1, True), (128, 16, 1, True), (3, 32, 1, False), (64, 16, 2, False)])
def test_patches_are_built_where_they_are_less_work(channels: int, size: int, stride: int, exact: bool) -> None:
    node = conv(channels, (3, 3), stride=stride, padding=((1, 1), (1, 1)))
    h = Hessian(9 * channels)
    x = [Given(torch.zeros(1, 1, channels, size, size).expand(4, 32, -1, -1, -1), node)]
    drawn = min(size * size, hessian.ROWS_MAX // 128)
    assert h._without_patches(x, 128, drawn, True) == exact


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "Linear"])
def test_chosen_windows_are_those_of_all_patches(layer: str) -> None:
    node, shape = LAYERS[layer]
    assert node is not None
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 3, *shape)))
    count = int(np.prod(windows_of(Given(x, node))))
    chosen = drawn_windows(count, min(4, count), 7, 3)
    every = patches(x.flatten(0, 1), node).reshape(4, 3, count, -1)
    expected = torch.stack([every[:, b, chosen[b]] for b in range(3)])
    assert torch.equal(patches_at(x, node, chosen), expected.flatten(0, 2))


def test_windows_are_drawn_by_sample_whatever_the_batch() -> None:
    whole = drawn_windows(50, 20, 0, 6)
    assert torch.equal(drawn_windows(50, 20, 3, 2), whole[3:5])
    assert torch.equal(drawn_windows(50, 7, 3, 2), whole[3:5, :7])
    assert all(len(set(row.tolist())) == 20 for row in whole)
    assert len({tuple(row.tolist()) for row in whole}) == 6
    assert sorted(drawn_windows(50, 50, 9, 1)[0].tolist()) == list(range(50))


STRIDED = conv(2, (3, 3), stride=2, padding=((1, 1), (1, 1)))


def late_and_cornered(steps: int, batch: int) -> np.ndarray:
    """Spikes mostly in every second time step, more of them at one corner."""
    rng = np.random.default_rng(5)
    slope = np.linspace(0.9, 0.1, 9)
    often = np.where(np.arange(steps) % 2, 1.0, 0.1)[:, None, None, None, None] * slope[:, None] * slope
    return (rng.random((steps, batch, 2, 9, 9)) < often).astype(np.float32)


def deviations(batches: list[slice], rows_max: int) -> np.ndarray:
    """How far H along some directions, and the bias's part, is from that of all windows, in standard errors of the
    mean of 20 drawings."""
    steps, batch = 8, 6
    x = late_and_cornered(steps, batch)
    rows = literal_windows_of(x)
    rng = np.random.default_rng(6)
    directions, constant = rng.normal(size=(5, 18)), np.linspace(1, 2, steps)
    expected = 2 * np.square(rows @ directions.T).mean(axis=(0, 1))
    each = np.repeat(constant, rows.shape[1] // steps)[None, :, None]
    expected = np.append(expected, 2 * (each * (rows @ directions.T)).mean(axis=(0, 1)))
    found = []
    with always("patches", rows_max):
        for seed in range(20):
            h = Hessian(18)
            for part in batches:
                h.add([Given(torch.from_numpy(x[:, part]), STRIDED)], first=1000 * seed + part.start,
                      constant=torch.from_numpy(constant.astype(np.float32)))
            mean, drive = h.mean()[0].numpy(), h.bias().drive[0].numpy()
            found.append(np.append([v @ mean @ v for v in directions], directions @ drive))
            assert h.bias().unit == pytest.approx(2 * np.mean(constant**2), rel=1e-6)
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(error < 0.1 * np.abs(expected).max())
    return (np.mean(found, axis=0) - expected) / error


def literal_windows_of(x: np.ndarray) -> np.ndarray:
    return rows_of(x, np.eye(len(x)), STRIDED)


@pytest.mark.parametrize("batches", [[slice(0, 6)], [slice(0, 5), slice(5, 6)]])
def test_drawn_windows_are_without_bias(batches: list[slice]) -> None:
    """Within 3.5 standard errors in ten numbers; also where a small last batch is thinned less than the others."""
    assert np.abs(deviations(batches, 200)).max() < 3.5


def test_thinning_time_steps_is_biased_where_drawing_windows_is_not() -> None:
    """Every second time step, as it once was, meets the loud ones only."""
    x = late_and_cornered(8, 6)
    true = np.trace(literal(*[[literal_windows_of(x)]] * 2)[0])
    every_second = np.trace(literal(*[[literal_windows_of(x[1::2])]] * 2)[0])
    assert every_second > 1.5 * true
    found = []
    with always("patches", 600):
        for seed in range(20):
            h = Hessian(18)
            h.add([Given(torch.from_numpy(x), STRIDED)], first=1000 * seed)
            found.append(float(h.mean()[0].trace()))
    assert np.mean(found) == pytest.approx(true, abs=3.5 * np.std(found, ddof=1) / np.sqrt(20))
    assert np.max(found) < 1.2 * true


def test_both_networks_inputs_get_the_same_windows() -> None:
    x = [Given(torch.from_numpy(late_and_cornered(8, 6)), STRIDED)]
    own, cross, elsewhere = Hessian(18), Hessian(18), Hessian(18)
    with always("patches", 200):
        own.add(x, first=3)
        cross.add(x, x, first=3)
        elsewhere.add(x, first=50)
    assert torch.equal(own.mean(), cross.mean())
    assert not torch.equal(own.mean(), elsewhere.mean())


def test_a_linear_layer_counts_every_time_step() -> None:
    """However many rows there are."""
    x = np.random.default_rng(3).integers(0, 2, (60, 500, 3)).astype(np.float32)  # sums are exact
    h = Hessian(3)
    h.add([Given(torch.from_numpy(x), None)])
    assert x[..., 0].size > hessian.ROWS_MAX
    close(h.mean(), literal(*[[rows_of(x, np.eye(60), None)]] * 2), 1e-6)


@pytest.mark.parametrize(("rows_max", "limit"), [(10**9, 8 * 25 * 18), (200, 1200)])
def test_patches_are_built_in_bounded_parts(rows_max: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of some samples each give what all at once give."""
    x, largest = torch.from_numpy(late_and_cornered(8, 6)), []
    with always("patches", rows_max):
        whole, parts = Hessian(18), Hessian(18)
        whole.add([Given(x, STRIDED)], constant=torch.ones(8))
        built = hessian.rows_of
        monkeypatch.setattr(hessian, "rows_of", lambda *of: largest.append((r := built(*of)).numel()) or r)
        monkeypatch.setattr(hessian, "PATCHES_MAX", limit)
        parts.add([Given(x, STRIDED)], constant=torch.ones(8))
    assert len(largest) > 1
    assert max(largest) <= limit
    torch.testing.assert_close(parts.mean(), whole.mean(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(parts.bias().drive, whole.bias().drive, rtol=1e-6, atol=1e-9)
