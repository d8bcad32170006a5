"""The benchmark's data and networks: events like the real sensor's, trained neurons that are NIR's neurons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from benchmarks.networks import (
    CALIBRATION,
    NETWORKS,
    NMNIST_TEST,
    NMNIST_TRAIN,
    PUBLISHED,
    Benchmark,
    read_images,
)
from benchmarks.saccades import saccade_events
from benchmarks.spiking import LIF, Spiking, folded, to_nir
from benchmarks.train import accuracy, cropped_and_mirrored, moved
from neurocompress import load
from neurocompress.data import events_to_spikes
from neurocompress.network.nodes import Conv, Linear
from neurocompress.simulation.float import simulate


def events_of(images: np.ndarray, steps: int = 100, seed: int = 0) -> np.ndarray:
    return saccade_events(torch.from_numpy(images), steps, generator=torch.Generator().manual_seed(seed)).numpy()


def bar() -> np.ndarray:
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 6:22, 12:16] = 255
    return image


def test_saccade_events_are_the_same_for_the_same_seed() -> None:
    first, second, other = (events_of(bar(), seed=seed) for seed in (3, 3, 4))
    assert first.dtype == np.uint8
    assert first.shape == (1, 100, 2, 34, 34)
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_a_bar_that_moves_left_darkens_on_its_right() -> None:
    """Third saccade: the image moves left. Channel 1, the darker pixels, is where the bar's right edge was."""
    frames = events_of(bar())[0, 76:98].sum(0).astype(float)
    x = np.arange(34)
    brighter, darker = ((channel.sum(0) * x).sum() / channel.sum() for channel in frames)
    assert darker - brighter > 2


def test_a_black_image_sends_the_noise_of_the_sensor_only() -> None:
    per_pixel = events_of(np.zeros((20, 28, 28), np.uint8)).sum((0, 1, 3, 4)) / (20 * 34 * 34)
    assert per_pixel[0] < 0.02
    assert 0.05 < per_pixel[1] < 0.2


def test_fewer_steps_hold_about_as_many_events() -> None:
    fine, coarse = events_of(bar(), 100).sum(), events_of(bar(), 20).sum()
    assert events_of(bar(), 20).max() > 1
    assert 0.6 < coarse / fine < 1.2


def test_saccade_events_are_like_the_recordings_of_the_same_images(shared: Path) -> None:
    """N-MNIST recording k shows MNIST training image k: events per recording, per time, and per pixel and time."""
    real = events_to_spikes(shared / "data/nmnist_800.npz", 3e-3, 100, limit=200, binary=True)
    images, labels = read_images(shared, "mnist", train=True)
    assert real.labels is not None
    np.testing.assert_array_equal(real.labels, labels[:200])
    made = events_of(images[:200])
    of_real, of_made = (a.sum((1, 2, 3, 4), dtype=np.int64) for a in (real.spikes, made))
    assert abs(of_made.mean() / of_real.mean() - 1) < 0.1
    assert np.corrcoef(of_real, of_made)[0, 1] > 0.95
    bins = [a.reshape(200, 20, 5, 2, 34, 34).sum(2, dtype=np.float32) for a in (real.spikes, made)]
    times = [a.sum((0, 3, 4)).ravel() for a in bins]  # (20 times, 2 channels)
    assert np.corrcoef(*times)[0, 1] > 0.95
    alike = np.corrcoef(bins[0].ravel(), bins[1].ravel())[0, 1]
    other_channel = np.corrcoef(bins[0].ravel(), bins[1][:, :, ::-1].ravel())[0, 1]
    other_image = np.corrcoef(bins[0].ravel(), np.roll(bins[1], 1, 0).ravel())[0, 1]
    assert alike > 0.65
    assert max(other_channel, other_image) < 0.3


def test_the_neuron_and_its_gradient_are_what_they_say() -> None:
    """Against the same neuron written with autograd, its reset a constant, its slope that of the arctangent."""
    x = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(0)).mul_(2).requires_grad_()
    weights = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(1))
    spikes = LIF.apply(x)
    (spikes * weights).sum().backward()
    got, x.grad = x.grad, None

    v, expected = torch.zeros(3, 5), []
    for current in x:
        v = v + (current - v) / 2
        smooth = torch.atan(torch.pi * (v - 1)) / torch.pi  # has the slope 1 / (1 + (pi (v - 1))^2)
        fired = (v > 1).float()
        expected.append(fired.detach() + smooth - smooth.detach())
        v = v * (1 - fired.detach())
    wanted = torch.stack(expected)
    assert 0.05 < float(spikes.mean().detach()) < 0.95
    torch.testing.assert_close(spikes, wanted)
    (wanted * weights).sum().backward()
    torch.testing.assert_close(got, x.grad)


@pytest.mark.parametrize("layer", [torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.Linear(6, 4, bias=False)])
def test_a_folded_layer_is_the_layer_and_its_batch_norm(layer: torch.nn.Module) -> None:
    convolution = isinstance(layer, torch.nn.Conv2d)
    norm = torch.nn.BatchNorm2d(4) if convolution else torch.nn.BatchNorm1d(4)
    layer, norm = layer.double(), norm.double()
    x = torch.rand((50, 3, 6, 6) if convolution else (50, 6), dtype=torch.float64)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
        for _ in range(5):
            norm(layer(x))
        wanted = norm.eval()(layer(x))
        weight, bias = folded(layer, norm)
        found = (torch.nn.functional.conv2d if convolution else torch.nn.functional.linear)(x, weight, bias)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_a_module_and_its_nir_file_count_the_same_spikes(network: Benchmark, tmp_path: Path) -> None:
    """The module with the file's own weights and no batch norm, against the simulator."""
    torch.manual_seed(0)
    model = Spiking(network)
    x = torch.rand(4, network.steps, *network.input_shape)
    x = (x < 0.05).float() if network.saccades else x
    with torch.no_grad():
        for layer, norm in zip(model.weighted, model.norms, strict=True):
            layer.weight.mul_(1 if network.convs else 10)
            if isinstance(norm, torch.nn.Identity):
                if layer.bias is not None:
                    layer.bias.fill_(1.5)
            else:
                norm.bias.uniform_(0, 2)
                norm.running_var.fill_(0.1)
    nir.write(tmp_path / "model.nir", to_nir(model, network))
    read = load(tmp_path / "model.nir")
    assert read.shapes[read.input] == network.input_shape
    found = simulate(read, x.numpy())["output"].sum(1)

    stored = [node for node in read.nodes.values() if isinstance(node, (Conv, Linear))]
    for k, (layer, node) in enumerate(zip(model.weighted, stored, strict=True)):
        layer.weight = torch.nn.Parameter(torch.from_numpy(node.weight))
        layer.bias = None if node.bias is None else torch.nn.Parameter(torch.from_numpy(node.bias))
        model.norms[k] = torch.nn.Identity()
    with torch.no_grad():
        counts = model.eval()(x.transpose(0, 1)).numpy()
    assert 0 < counts.mean() < network.steps / 2 + 0.1
    np.testing.assert_array_equal(found, counts)


def test_dropout_takes_a_neuron_from_a_sample_at_every_step() -> None:
    """In training about a share `dropout` of the hidden neurons is not heard, the others louder; otherwise all are."""
    network = replace(NETWORKS["saccade-2fc"], dropout=0.25)
    torch.manual_seed(0)
    model, heard = Spiking(network), []
    model.weighted[0].weight.data.mul_(20)
    model.weighted[-1].register_forward_pre_hook(lambda _, given: heard.append(given[0].reshape(12, 6, -1)))
    x = (torch.rand(12, 6, *network.input_shape) < 0.05).float()
    with torch.no_grad():
        model.train()(x)
        model.eval()(x)
    noisy, spikes = heard
    silent = (noisy == 0).all(0)
    torch.testing.assert_close(noisy, torch.where(silent, 0, spikes / 0.75))
    spiked = spikes.any(0)
    assert spiked.float().mean() > 0.5
    assert abs(float(silent[spiked].float().mean()) - 0.25) < 0.05


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_trained_networks_load(network: Benchmark) -> None:
    found = load(network.path)
    assert found.shapes[found.input] == network.input_shape
    assert found.shapes[found.output] == (10,)
    assert found.conventions.dt == pytest.approx(network.dt)
    assert (found.conventions.reset, found.conventions.fire) == ("zero", ">")
    assert network.path.stat().st_size < 5e6


def test_data_of_the_recordings_are_held_out(shared: Path) -> None:
    """No calibration sample is a test sample; the images of the test recordings do not calibrate either."""
    assert NMNIST_TRAIN.stop <= NMNIST_TEST.start
    assert NMNIST_TEST.stop <= CALIBRATION.start
    network = NETWORKS["nmnist-2fc"]
    calibration, test = network.calibration(shared), network.test(shared)
    assert (calibration.samples, test.samples) == (500, 300)
    assert test.labels is not None
    assert np.bincount(test.labels).min() >= 20


def test_saccade_2fc_knows_digits(shared: Path) -> None:
    network = NETWORKS["saccade-2fc"]
    assert accuracy(network.path, network.test(shared).first(200)) >= 95


def test_nmnist_2fc_knows_recorded_digits(shared: Path) -> None:
    network = NETWORKS["nmnist-2fc"]
    assert [type(n) for n in load(network.path).nodes.values()].count(Linear) == 2
    assert accuracy(network.path, network.test(shared).first(100)) >= 90


def test_the_published_network_knows_recorded_digits(shared: Path) -> None:
    """The NIR paper's network under its tool's conventions: of all 800 recordings it knows 98.6 %."""
    network = PUBLISHED["nmnist-cnn"]
    found, data = network.network(), network.test(shared).first(50)
    assert found.conventions.dt == pytest.approx(network.dt)
    counts = simulate(found, data.spikes)["output"].sum(1)
    assert (counts.argmax(1) == data.labels).sum() >= 48


def test_moved_recordings_keep_their_events() -> None:
    """A single event in the middle moves by at most two steps and one pixel, and stays in its channel."""
    spikes = torch.zeros(50, 9, 2, 7, 7, dtype=torch.uint8)
    spikes[:, 4, 1, 3, 3] = 1
    at = moved(spikes, np.random.default_rng(0)).nonzero()
    assert len(at) == 50
    low, high = at[:, 1:].amin(0).tolist(), at[:, 1:].amax(0).tolist()
    assert (low, high) == ([2, 1, 2, 2], [6, 1, 4, 4])


def test_crops_move_and_mirror() -> None:
    images = np.zeros((200, 9, 9, 3), np.uint8)
    images[:, 4, 4] = 9
    found = np.argwhere(cropped_and_mirrored(images, np.random.default_rng(0), margin=2)[..., 0])
    assert len(found) == 200
    assert (found[:, 1:].min(0).tolist(), found[:, 1:].max(0).tolist()) == ([2, 2], [6, 6])
