"""Synaptic operations against plain loops over every synapse, against NeuroBench, and against PyTorch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from neurocompress.network.connections import Connection
from neurocompress.network.kernel import Kernel
from neurocompress.verification.operations import activity, fan_out, neuron_updates, operations, total


def dense(weight: np.ndarray | sparse.csr_array) -> Connection:
    return Connection("fc", "a", "b", weight, None, None, (weight.shape[1],), (weight.shape[0],))


def conv(weight: np.ndarray, shape: tuple[int, ...], **geometry: object) -> Connection:
    n = len(shape) - 1
    g = {"stride": (1,) * n, "padding": ((0, 0),) * n, "dilation": (1,) * n, "groups": 1} | geometry
    kernel = Kernel.of(shape, weight.shape, *g.values())  # type: ignore[arg-type]
    return Connection("conv", "a", "b", weight, kernel, None, kernel.input_shape, kernel.output_shape)


def by_hand(matrix: np.ndarray, spikes: np.ndarray) -> int:
    """Every sample, step, target and source; one operation where neither the weight nor the input is zero."""
    found = 0
    for sample in spikes.reshape(*spikes.shape[:2], -1):
        for step in sample:
            for row in matrix:
                for w, s in zip(row, step, strict=True):
                    found += w != 0 and s != 0
    return found


@st.composite
def weights(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.normal(size=shape) * (rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0])))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_dense_and_sparse_counts_equal_a_loop_over_every_synapse(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    weight = data.draw(weights(shape))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    spikes = rng.integers(-1, data.draw(st.integers(1, 3)), (3, 4, shape[1])).astype(np.int16)
    for form in (weight, sparse.csr_array(weight)):
        got = operations(dense(form), activity(spikes))
        assert got.sops_effective * 3 == pytest.approx(by_hand(weight, spikes), rel=1e-12)
        assert (got.mac == 0) or (got.ac == 0)
        assert (got.mac > 0) == (got.sops_effective > 0 and bool((np.abs(spikes) > 1).any()))
    full = operations(dense(weight), activity(spikes))
    assert full.sops_unmasked * 3 == pytest.approx(by_hand(np.ones(shape), spikes), rel=1e-12)
    assert full.sops_dense == shape[0] * shape[1] * 4


@st.composite
def convolutions(draw: st.DrawFn) -> Connection:
    groups = draw(st.integers(1, 2))
    axes = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    size = tuple(draw(st.integers(5, 7)) for _ in range(axes))
    weight = draw(weights((groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *kernel)))
    return conv(
        weight, (weight.shape[1] * groups, *size),
        stride=tuple(draw(st.integers(1, 3)) for _ in size),
        padding=tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in size),
        dilation=tuple(draw(st.integers(1, 2)) for _ in size), groups=groups,
    )


@given(convolutions())
@settings(max_examples=100, deadline=None)
def test_fan_out_of_a_convolution_is_its_transpose_over_ones(connection: Connection) -> None:
    """PyTorch's transposed convolution of an output full of ones counts each input's synapses, padding left out."""
    assert connection.kernel is not None
    k = connection.kernel
    two = lambda values, fill: (fill,) * (2 - len(values)) + tuple(values)  # noqa: E731
    weight = np.asarray(connection.weight)
    weight = weight.reshape(*weight.shape[:2], *two(weight.shape[2:], 1))
    for found, mask in ((fan_out(connection), weight != 0), (fan_out(connection, masked=False), weight == weight)):
        x = torch.zeros(1, k.input_shape[0], *two(k.input_shape[1:], 1), dtype=torch.float64, requires_grad=True)
        (up, down), (left, right) = two(k.padding, (0, 0))
        padded = torch.nn.functional.pad(x, (left, right, up, down))
        out = torch.nn.functional.conv2d(
            padded, torch.from_numpy(mask.astype(float)), stride=two(k.stride, 1), dilation=two(k.dilation, 1),
            groups=k.groups)
        assert out.shape[1:] == (k.output_shape[0], *two(k.output_shape[1:], 1))
        out.sum().backward()
        assert x.grad is not None
        np.testing.assert_array_equal(found, x.grad.numpy().ravel())


@given(convolutions(), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_convolutions_equal_a_loop_over_every_synapse(connection: Connection, seed: int) -> None:
    spikes = np.random.default_rng(seed).integers(0, 2, (2, 2, *connection.source_shape), dtype=np.uint8)
    got = operations(connection, activity(spikes))
    assert got.sops_effective * 2 == pytest.approx(by_hand(connection.matrix().toarray(), spikes), rel=1e-12)


class Net(torch.nn.Module):
    """Padding, stride and groups, half of the weights zero; spikes by a threshold, so that layers feed layers."""

    def __init__(self, graded: bool):
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = torch.nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.conv2 = torch.nn.Conv2d(6, 8, (3, 2), padding=(2, 1), groups=2)
        self.fc = torch.nn.Linear(8 * 8 * 7, 10)
        self.graded = graded
        self.seen: list[np.ndarray] = []
        with torch.no_grad():
            for layer in (self.conv1, self.conv2, self.fc):
                layer.weight *= torch.rand_like(layer.weight) < 0.5

    def fire(self, x: torch.Tensor) -> torch.Tensor:
        s = torch.floor(x.clamp(min=0) * 8) if self.graded else (x > 0.1).float()
        self.seen.append(s.numpy())
        return s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = [x.numpy()]
        h = self.fire(self.conv2(self.fire(self.conv1(x))))
        out: torch.Tensor = self.fc(h.flatten(1))
        return out


@pytest.mark.parametrize("graded", [False, True])
def test_counts_equal_neurobench(graded: bool) -> None:
    from neurobench.hooks.layer import LayerHook  # here and not above: it takes seconds to import
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    synaptic = SynapticOperations()
    net = Net(graded)
    model = TorchModel(net)
    steps, samples = 4, 5
    x = (torch.rand(samples * steps, 2, 12, 11) < 0.2).float()  # time steps stand in the batch: no neuron has memory
    model.connection_hooks = [LayerHook(layer) for layer in (net.conv1, net.conv2, net.fc)]
    with torch.no_grad():
        out = net(x)
    theirs = synaptic(model, out, (x, torch.zeros(samples * steps)))

    parts = []
    for layer, spikes in zip((net.conv1, net.conv2, net.fc), net.seen, strict=True):
        weight = layer.weight.detach().numpy()
        if isinstance(layer, torch.nn.Conv2d):
            padding = tuple((int(p), int(p)) for p in layer.padding)
            connection = conv(weight, spikes.shape[1:], stride=layer.stride, padding=padding,
                              dilation=layer.dilation, groups=layer.groups)
        else:
            connection = dense(weight)
        parts.append(operations(connection, activity(spikes.reshape(samples, steps, *spikes.shape[1:]))))
    ours = total(parts)
    assert ours.ac / steps == pytest.approx(theirs["Effective_ACs"], rel=1e-6)
    assert ours.mac / steps == pytest.approx(theirs["Effective_MACs"], rel=1e-6)
    assert ours.sops_dense / steps == pytest.approx(theirs["Dense"], rel=1e-6)
    assert ours.sops_effective < ours.sops_unmasked < ours.sops_dense
    assert (ours.mac > 0) == graded


def test_behind_a_pool_every_spike_counts_and_neurobench_counts_at_most_as_many() -> None:
    """Two spikes of one window in one step are two deliveries on a chip, one pooled value for NeuroBench."""
    weight = np.ones((3, 1))
    pooled = dense(sparse.csr_array(weight @ np.ones((1, 4))))
    together = np.array([[[1, 1, 0, 0]]], np.uint8)
    apart = np.array([[[1, 0, 0, 0], [0, 1, 0, 0]]], np.uint8)
    assert operations(pooled, activity(together)).sops_effective == 6  # NeuroBench: 3
    assert operations(pooled, activity(apart)).sops_effective == 6  # NeuroBench: 6


def test_a_graded_spike_is_one_operation_and_a_mac() -> None:
    got = operations(dense(np.ones((3, 2))), activity(np.array([[[5, 0], [0, 1]]], np.int16)))
    assert (got.ac, got.mac) == (0, 6)
    got = operations(dense(np.ones((3, 2))), activity(np.array([[[-1, 0], [0, 1]]], np.int16)))
    assert (got.ac, got.mac) == (6, 0)


def test_batches_add_up_to_the_whole() -> None:
    spikes = np.random.default_rng(0).integers(0, 3, (7, 5, 2, 3))
    whole, parts = activity(spikes), activity(spikes[:3]) + activity(spikes[3:])
    np.testing.assert_array_equal(whole.events, parts.events)
    assert (whole.samples, whole.steps, whole.graded) == (parts.samples, parts.steps, parts.graded) == (7, 5, True)
    assert whole.firing_rate == pytest.approx((spikes != 0).mean(), rel=1e-12)
    np.testing.assert_allclose(whole.rates.reshape(2, 3), (spikes != 0).mean((0, 1)))
    with pytest.raises(ValueError, match="4 and 5 steps"):
        _ = activity(spikes[:, :4]) + activity(spikes)


def test_dead_neurons_updates_and_mismatches() -> None:
    spikes = np.zeros((2, 3, 4), np.uint8)
    spikes[1, 2, 1] = 1
    assert activity(spikes).dead == 3
    assert neuron_updates(10, 300) == 3000
    with pytest.raises(ValueError, match="activity of 4 neurons, 2 sources"):
        operations(dense(np.ones((3, 2))), activity(spikes))


def test_a_large_convolution_needs_no_list_of_its_synapses() -> None:
    """64 to 64 channels of 256 x 256: 2.4 billion synapses."""
    connection = conv(np.ones((64, 64, 3, 3), np.float32), (64, 256, 256), padding=((1, 1), (1, 1)))
    found = fan_out(connection, masked=False).reshape(64, 256, 256)
    assert (found[0, 5, 5], found[0, 0, 0], found[0, 0, 5]) == (64 * 9, 64 * 4, 64 * 6)
