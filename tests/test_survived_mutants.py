"""Rules whose breaking no other test saw: signs, mixtures within one population, edges of a formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_problems import problem, tensors

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import Population
from neurocompress.compression.maths import support
from neurocompress.compression.maths.hessian import Given, Hessian
from neurocompress.compression.maths.support import admm, spectrum
from neurocompress.emulation.integer_neurons import IntegerNeurons
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.drive import constants
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.simulation.float import simulate

pytestmark = pytest.mark.usefixtures("one_thread")


def integers(rule: Arithmetic, n: int, **more: object) -> IntegerNeurons:
    given = {"du": np.array(2**rule.decay_bits - 1), "dv": np.array(0), "vth": np.array(1), "bias_mant": np.array(0)}
    return IntegerNeurons(Population("p", (n,), **(given | more)), rule, 1, torch.device("cpu"))


@pytest.mark.parametrize("arriving", [[-300, -128, 3], [300, 129, -3], [-300, 300, 128], [127, -127, 0]])
@pytest.mark.parametrize("wraps", [True, False])
def test_registers_that_end_below_count_as_those_that_end_above(arriving: list[int], wraps: bool) -> None:
    """Words of 8 bits: u in -127..127, wrapped beyond 128 and -128; v in -127..127."""
    rule = Arithmetic(state_bits=8, activation_shift=0, u_wraps=wraps, threshold_shift=0)
    neurons = integers(rule, 3, spiking=False)
    neurons.step(torch.tensor([arriving], dtype=torch.int32), torch.zeros((1, 3), dtype=torch.int32))
    ends, values = [], []
    for a in arriving:
        if wraps:
            ends.append(a > 128 or a <= -128)
            values.append(a - 256 if a > 128 else a + 256 if a <= -128 else a)
        else:
            ends.append(abs(a) > 127)
            values.append(max(-127, min(127, a)))
    assert (neurons.wrapped if wraps else neurons.clipped - sum(abs(v) > 127 for v in values)) == sum(ends)
    assert neurons.clipped == (sum(abs(v) > 127 for v in values) if wraps else sum(ends))
    assert neurons.v.tolist() == [[max(-127, min(127, v)) for v in values]]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_potential_that_is_clipped_counts_on_either_side(sign: int) -> None:
    rule = Arithmetic(state_bits=8, activation_shift=0, threshold_shift=0)
    neurons = integers(rule, 2, spiking=False)
    out = torch.zeros((1, 2), dtype=torch.int32)
    for _ in range(3):  # 60, 120, 180: the third step ends; the other neuron never does
        neurons.step(torch.tensor([[60 * sign, 20 * sign]], dtype=torch.int32), out)
    assert (neurons.wrapped, neurons.clipped) == (0, 1)
    assert out.tolist() == [[127 * sign, 60 * sign]]


def test_neurons_that_forget_and_neurons_that_keep_lie_in_one_integer_population() -> None:
    rule = Arithmetic(activation_shift=0, threshold_shift=0)
    du, dv = np.array([4095, 4095, 1000]), np.array([0, 1024, 4095])
    neurons = integers(rule, 3, du=du, dv=dv, spiking=False)
    u, v = [0, 0, 0], [0, 0, 0]
    for a in ([900, 800, 700], [-50, 60, 10], [0, 0, 0], [7, -8, 9]):
        out = torch.zeros((1, 3), dtype=torch.int32)
        neurons.step(torch.tensor([a], dtype=torch.int32), out)
        for i in range(3):  # a quotient toward zero
            u[i] = int(u[i] * (4095 - int(du[i])) / 4096) + a[i]
            v[i] = int(v[i] * (4096 - int(dv[i])) / 4096) + u[i]
        assert out.tolist() == [v]


def loop(tau: np.ndarray, bias: np.ndarray, conventions: Conventions) -> Network:
    """Input -> fc -> neurons -> output, with feedback `rec` that has a bias."""
    n, one = len(tau), np.ones(len(tau))
    nodes = {"input": Input((n,)), "fc": Linear(np.eye(n)), "rec": Linear(np.zeros((n, n)), bias),
             "output": Output((n,)),
             "a": Neuron((n,), r=tau, v_threshold=one, v_reset=0 * one, tau_mem=tau, v_leak=0 * one)}
    edges = (("input", "fc"), ("fc", "a"), ("a", "rec"), ("rec", "a"), ("a", "output"))
    return Network(nodes, edges, conventions)


def test_a_float_population_mixes_neurons_that_leak_and_neurons_that_do_not() -> None:
    tau = np.array([1e30, 2.0, 4.0])  # beta 1, 0.5, 0.75
    one = np.ones(3)
    neuron = Neuron((3,), r=tau, v_threshold=one, v_reset=0 * one, tau_mem=tau, v_leak=0 * one)
    weight = np.diag([0.25, 0.75, 0.5])
    nodes = {"input": Input((3,)), "fc": Linear(weight), "a": neuron, "output": Output((3,))}
    network = Network(nodes, (("input", "fc"), ("fc", "a"), ("a", "output")), Conventions(dt=1.0, gain="unit"))
    spikes = (np.random.default_rng(0).random((1, 40, 3)) < 0.7).astype(np.uint8)
    found = simulate(network, spikes)["output"][0]
    v, beta = np.zeros(3), np.array([1.0, 0.5, 0.75])
    for x, seen in zip(spikes[0], found, strict=True):
        v = beta * v + weight @ x
        fired = v > 1.0
        np.testing.assert_array_equal(seen, fired)
        v[fired] = 0.0
    assert found.sum(axis=0).min() > 3


def test_a_late_feedback_bias_of_a_neuron_that_forgets_is_not_taken_from_its_start() -> None:
    """v starts so that the bias is missing in the first step only: at beta 0 nothing of the start is left, and v may
    start nowhere else than at 0."""
    late = Conventions(dt=1.0, recurrent_bias_at_start=False)
    for tau, kept in ((1.0, False), (2.0, True)):  # Euler: beta = 1 - dt / tau
        network = loop(np.full(2, tau), np.array([0.5, -0.25]), late)
        into = [c for c in connections(network) if c.target == "a"]
        start = np.broadcast_to(constants(network.nodes["a"], into, (2,), late).v_init, (2,))
        assert np.all(np.isfinite(start))
        expected = -np.array([0.5, -0.25]) / 0.5 if kept else np.zeros(2)
        np.testing.assert_allclose(start, expected)


def test_the_statistics_of_the_bias_are_those_of_a_column_of_constants() -> None:
    rng = np.random.default_rng(3)
    hessian, whole = Hessian(4), []
    for n in (5, 9):  # two batches of one sample
        rows, constant = rng.normal(size=(n, 4)), rng.normal(size=n) + 1
        hessian.add([Given(torch.from_numpy(rows)[:, None], None)], constant=torch.from_numpy(constant))
        whole.append(np.column_stack([rows, constant]))
    x = np.concatenate(whole)
    expected = 2 * x.T @ x / len(x)
    np.testing.assert_allclose(hessian.mean()[0], expected[:4, :4])
    np.testing.assert_allclose(hessian.bias().drive[0], expected[4, :4])
    np.testing.assert_allclose(hessian.bias().unit, expected[4, 4])


def literal_admm(weight: np.ndarray, hessian: np.ndarray, keep: int, rounds: int) -> tuple[np.ndarray, int]:
    """ALPS (arXiv 2406.07831), sections 3.1 and 3.2, by dense solves: the mask, and the rounds that it took."""
    scale = np.sqrt(np.diag(hessian))
    h, w = hessian / np.outer(scale, scale), weight * scale

    def project(values: np.ndarray) -> np.ndarray:
        out = np.zeros(values.size)
        top = np.argsort(-np.abs(values).ravel(), kind="stable")[:keep]
        out[top] = values.ravel()[top]
        return out.reshape(values.shape)

    kept, dual, penalty = project(w), np.zeros_like(w), 0.1
    before = kept != 0
    for k in range(1, rounds + 1):
        free = np.linalg.solve(h + penalty * np.eye(len(h)), (w @ h - dual + penalty * kept).T).T
        kept = project(free + dual / penalty)
        dual = dual + penalty * (free - kept)
        if k % 3 == 0:
            changed = int(((kept != 0) != before).sum())
            if changed == 0:
                return kept != 0, k
            penalty *= 1.3 if changed >= 0.1 * keep else 1.2 if changed >= 0.005 * keep else 1.1
            before = kept != 0
    return kept != 0, rounds


@pytest.mark.parametrize(("seed", "rows", "d", "keep"), [
    *((seed, 6, 20, (12, 60, 100)[seed % 3]) for seed in range(12)), *((seed, 20, 40, 500) for seed in range(4))])
def test_admm_stops_where_the_support_stays_and_raises_its_penalty_as_alps_does(
    seed: int, rows: int, d: int, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mask and the same number of rounds as dense solves: 1.3, 1.2 and 1.1 are all taken."""
    weight, hessian = problem(seed, rows, d)
    rounds = 0
    project = support._project

    def counted(*given: object) -> torch.Tensor:
        nonlocal rounds
        rounds += 1
        return project(*given)

    monkeypatch.setattr(support, "_project", counted)
    w, h = tensors(weight, hessian)
    mask = admm(w, spectrum(h), (d,), (keep,)).numpy()
    expected, taken = literal_admm(weight, hessian, keep, 300)
    np.testing.assert_array_equal(mask, expected)
    assert rounds - 1 == taken  # one projection before the first round
    assert 3 < taken < 300


