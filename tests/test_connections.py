"""Folding leaves the function unchanged: connections against PyTorch's own layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.errors import Refused
from neurocompress.network.chip_form import chip_form
from neurocompress.network.connections import connections
from neurocompress.network.graph import Network
from neurocompress.network.nodes import (
    Conv,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Output,
    Pool,
    Scale,
)
from neurocompress.network.shapes import output_shape


def chained(shape, *layers):
    """input -> layers -> IF -> output"""
    nodes, here = {"input": Input(shape)}, shape
    for k, layer in enumerate(layers):
        nodes[f"n{k}"] = layer
        here = output_shape(layer, here)
    nodes["if"] = Neuron(here, r=np.ones(here), v_threshold=np.ones(here), v_reset=np.zeros(here))
    nodes["output"] = Output(here)
    names = list(nodes)
    return Network(nodes, tuple(itertools.pairwise(names)))


def torch_layer(layer, x):
    if isinstance(layer, Linear):
        return F.linear(x, torch.tensor(layer.weight), None if layer.bias is None else torch.tensor(layer.bias))
    if isinstance(layer, Conv):
        bias = None if layer.bias is None else torch.tensor(layer.bias)
        padding = [a for a, _ in layer.padding]
        return F.conv2d(x, torch.tensor(layer.weight), bias, layer.stride, padding, layer.dilation, layer.groups)
    if isinstance(layer, Pool):
        padding = [a for a, _ in layer.padding]
        y = F.avg_pool2d(x, layer.kernel_size, layer.stride, padding)
        return y * np.prod(layer.kernel_size) if layer.kind == "sum" else y
    if isinstance(layer, Scale):
        return x * torch.tensor(layer.scale)
    assert isinstance(layer, Flatten)
    return x.flatten(1)


def value(network, x):
    """What the connections of a network deliver for the input x, by their sparse matrices."""
    total = 0.0
    for c in connections(network):
        total = total + c.matrix() @ x.ravel() + (0 if c.bias is None else c.bias)
    return total


def agree(shape, *layers):
    network = chained(shape, *layers)
    x = np.random.default_rng(0).normal(size=shape)
    y = torch.tensor(x)[None]
    for layer in layers:
        y = torch_layer(layer, y)
    np.testing.assert_allclose(value(network, x), y[0].flatten().numpy(), rtol=1e-9, atol=1e-9)
    return network


sizes = st.integers(1, 3)


@st.composite
def convs(draw, channels, image, kernel_max=3):
    groups = draw(st.sampled_from([g for g in (1, 2) if channels % g == 0]))
    c_out = groups * draw(sizes)
    kernel = [draw(st.integers(1, min(kernel_max, n))) for n in image]
    padding = tuple((p, p) for p in (draw(st.integers(0, 2)) for _ in image))
    dilation = tuple(1 if k * 2 > n else draw(st.integers(1, 2)) for k, n in zip(kernel, image, strict=True))
    weight = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(c_out, channels // groups, *kernel))
    stride = (draw(sizes), draw(sizes))
    return Conv(weight, draw(st.sampled_from([None, np.arange(c_out) * 0.5])), stride, padding, dilation, groups)


images = st.tuples(st.integers(4, 9), st.integers(4, 9))


@settings(deadline=None, max_examples=60)
@given(st.data(), images)
def test_convolution_of_any_geometry(data, image):
    agree((2, *image), data.draw(convs(2, image)))


@settings(deadline=None, max_examples=120)
@given(st.data(), images, st.integers(1, 3), st.integers(1, 3), st.sampled_from(["sum", "average"]))
def test_pooling_then_convolution(data, image, kernel, stride, kind):
    pool = Pool(kind, (kernel, kernel), (stride, stride), ((0, 0), (0, 0)))
    pooled = output_shape(pool, (2, *image))
    agree((2, *image), pool, data.draw(convs(2, pooled[1:], kernel_max=min(3, *pooled[1:]))))


@settings(deadline=None, max_examples=60)
@given(st.data(), images, st.sampled_from(["sum", "average"]))
def test_convolution_then_pooling(data, image, kind):
    conv = data.draw(convs(2, image))
    shape = output_shape(conv, (2, *image))
    kernel = (min(2, shape[1]), min(2, shape[2]))
    agree((2, *image), conv, Pool(kind, kernel, kernel, ((0, 0), (0, 0))))


def test_scales_fold_into_the_weights_beside_them():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(4, 6))
    network = agree((6,), Scale(rng.normal(size=6)), Linear(weight, np.ones(4)), Scale(rng.normal(size=4)))
    assert sum(isinstance(n, Scale) for n in chip_form(network).nodes.values()) == 0
    agree((2, 4, 4), Scale(rng.normal(size=(2, 1, 1))), Conv(rng.normal(size=(4, 2, 3, 3)), np.ones(4), (1, 1),
          ((1, 1), (1, 1)), (1, 1)), Scale(rng.normal(size=(4, 1, 1))))
    agree((6,), Scale(rng.normal(size=6)))
    agree((2, 4, 4), Scale(np.float64(0.5)))


def test_products_of_layers_become_one_layer():
    rng = np.random.default_rng(2)
    network = agree((6,), Linear(rng.normal(size=(5, 6)), np.ones(5)), Linear(rng.normal(size=(3, 5)), np.ones(3)))
    assert len(connections(network)) == 1
    conv = Conv(rng.normal(size=(4, 2, 3, 3)), np.arange(4.0), (1, 1), ((1, 1), (1, 1)), (1, 1))
    agree((2, 4, 4), conv, Flatten(), Linear(rng.normal(size=(3, 64)), np.ones(3)))
    pool = Pool("average", (2, 2), (2, 2), ((0, 0), (0, 0)))
    agree((2, 8, 8), pool, Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0))), Flatten(), Linear(rng.normal(size=(3, 8))))


def test_pooling_before_a_convolution_stays_a_convolution():
    conv = Conv(np.ones((8, 16, 3, 3)), None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    (c,) = connections(chained((16, 16, 16), Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0))), conv))
    assert c.kernel is not None
    assert c.weight.shape == (8, 16, 6, 6)
    assert c.kernel.stride == (2, 2)
    assert c.kernel.padding == ((2, 2), (2, 2))
    assert c.repeats == 4


def test_a_layer_fed_by_a_sum_counts_its_bias_once():
    weight, bias = np.eye(3), np.array([1.0, 2.0, 3.0])
    unit = Neuron((3,), r=np.ones(3), v_threshold=np.ones(3), v_reset=np.zeros(3))
    nodes = {"input": Input((3,)), "a": unit, "b": unit, "fc": Linear(weight, bias), "c": unit, "output": Output((3,))}
    edges = (("input", "a"), ("input", "b"), ("a", "fc"), ("b", "fc"), ("fc", "c"), ("c", "output"))
    into = [c for c in connections(Network(nodes, edges)) if c.target == "c"]
    assert {c.source for c in into} == {"a", "b"}
    np.testing.assert_array_equal(sum(c.bias for c in into if c.bias is not None), bias)


def test_feedback_and_delays_are_steps():
    unit = Neuron((3,), r=np.ones(3), v_threshold=np.ones(3), v_reset=np.zeros(3))
    nodes = {"input": Input((3,)), "wait": Delay(np.array([0.0, 1.0, 2.0])), "a": unit, "rec": Linear(np.eye(3)),
             "output": Output((3,))}
    edges = (("input", "wait"), ("wait", "a"), ("a", "rec"), ("rec", "a"), ("a", "output"))
    found = {c.name: c for c in connections(Network(nodes, edges))}
    np.testing.assert_array_equal(found["wait"].delay, [0, 1, 2])
    assert found["rec"].delay == 1
    assert found["rec"].feedback


def test_layers_without_a_neuron_that_end_in_an_image_are_refused():
    conv = Conv(np.ones((2, 2, 3, 3)), None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    with pytest.raises(Refused, match="Put a neuron between"):
        connections(chained((2, 6, 6), conv, conv))
