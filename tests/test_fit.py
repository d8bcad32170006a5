"""The fit check counts what is there, reports every broken rule, and its fixes work when they are applied."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompress.chip.profile.load import Profile, load_profile, profile_names, profile_text
from neurocompress.errors import Refused
from neurocompress.fit.check import Fit, check_fit
from neurocompress.fit.mapping.partition import Limits
from neurocompress.fit.mapping.synapse_counts import pieces
from neurocompress.fit.plan import Plan
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Node, Output, Pool, Shape
from neurocompress.network.shapes import output_shape

RNG = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    """Random numbers of both signs, none of them zero."""
    return np.where(RNG.random(shape) < 0.5, -1.0, 1.0) * RNG.uniform(0.01, 1.0, shape)


def spiking(shape: Shape) -> Neuron:
    return Neuron(shape, np.ones(()), np.ones(()), np.zeros(()))


def chain(shape: Shape, *layers: list[Node], **conventions: object) -> Network:
    """Layers of stateless nodes, each followed by IF neurons named n0, n1..."""
    nodes: dict[str, Node] = {"input": Input(shape)}
    edges, last = [], "input"
    for k, layer in enumerate(layers):
        for j, node in enumerate(layer):
            shape = output_shape(node, shape)
            name = f"fc{k}" if isinstance(node, (Linear, Conv)) else f"x{k}_{j}"
            nodes[name] = node
            edges.append((last, name))
            last = name
        nodes[f"n{k}"] = spiking(shape)
        edges.append((last, f"n{k}"))
        last = f"n{k}"
    nodes["output"] = Output()
    return Network(nodes, (*edges, (last, "output")), Conventions(**conventions))  # type: ignore[arg-type]


def dense(*sizes: int, **conventions: object) -> Network:
    layers = [[Linear(weights(b, a))] for a, b in pairwise(sizes)]
    return chain((sizes[0],), *layers, **conventions)


def plan_of(network: Network, profile: Profile, bits: int = 8, sparsity: float = 0.0) -> Plan:
    made = connections(network)
    return Plan(network, profile, made, {c.name: bits for c in made}, {c.name: sparsity for c in made}, 1)


def profile_with(old: str, new: str, name: str = "loihi1") -> Profile:
    """An installed profile with one passage exchanged."""
    text = profile_text(name)
    assert old in text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.yaml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return load_profile(path)


def codes(fit: Fit) -> set[str]:
    return {v.code for v in fit.violations}


def test_a_small_dense_network_takes_the_published_words() -> None:
    fit = check_fit(dense(100, 256), load_profile("loihi1"))
    assert fit.verdict == "fits"
    (row,) = fit.rows
    assert (row.layer, row.population, row.neurons, row.synapses, row.cores) == ("fc0", "n0", 256, 25600, 1)
    assert row.memory == 100 * 36 * 8
    assert (row.memory_float32, row.axons_in, row.fan_in) == (100 * 256 * 4, 100, 100)
    assert row.utilization["axons_in"] == 100 / 4096


def test_the_fullest_core_holds_all_that_lies_on_it() -> None:
    fit = check_fit(dense(100, 256, 10), load_profile("loihi1"))
    assert (fit.cores, fit.verdict) == (1, "fits")  # both layers lie on it
    assert fit.utilization["neurons"] == 266 / 1024
    assert fit.utilization["axons_in"] == (100 + 256) / 4096
    assert fit.utilization["memory"] == fit.totals["memory"] * 8 / (fit.plan.profile.core.memory_bits or 0)
    assert fit.utilization["memory_per_axon"] == max(row.utilization["memory_per_axon"] for row in fit.rows)
    assert max(row.utilization["neurons"] for row in fit.rows) == 256 / 1024  # of one piece


def test_the_lists_of_a_convolution_are_stored_once_per_pattern_of_taps() -> None:
    network = chain((1, 8, 8), [Conv(weights(4, 1, 3, 3), None, (1, 1), ((1, 1), (1, 1)), (1, 1))])
    (row,) = check_fit(network, load_profile("loihi1")).rows
    # 3 patterns per axis: at the borders 2 taps, inside 3; a list of r rows of 4c weights; NxTF (prefix 8 bit for 256
    # neurons) is r entries of 18 + 32c bits, nengo-loihi r blocks of 10 + 32c bits in whole words
    def words(r: int, c: int) -> int:
        total = r * (18 + 32 * c)
        nxtf = -(-total // 64) + (total % 64 == 0 or total % 64 >= 59)
        return max(nxtf, r * -(-(10 + 32 * c) // 64))

    assert row.memory == 8 * sum(words(r, c) for r in (2, 3, 2) for c in (2, 3, 2))
    assert row.axons_in == 64
    assert row.synapses == 4 * (8 * 3 - 2) ** 2


@settings(max_examples=60, deadline=None)
@given(
    c_in=st.integers(1, 4), c_out=st.integers(1, 6), size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 2), pad=st.integers(0, 2),
    dilation=st.integers(1, 2), groups=st.integers(1, 2), zeros=st.floats(0, 0.9), cores=st.integers(4, 40),
)
def test_what_a_convolution_needs_equals_a_count_of_its_matrix(
    c_in: int, c_out: int, size: tuple[int, int], kernel: tuple[int, int], stride: int, pad: int, dilation: int,
    groups: int, zeros: float, cores: int,
) -> None:
    c_in, c_out = c_in * groups, c_out * groups
    weight = weights(c_out, c_in // groups, *kernel)
    if groups == 1 and zeros > 0.3:
        weight[RNG.random(weight.shape) < zeros] = 0
    conv = Conv(weight, None, (stride, stride), ((pad, pad), (pad, 0)), (dilation, dilation), groups)
    try:
        network = chain((c_in, *size), [conv])
    except ValueError:
        return  # the kernel is larger than its input
    profile = profile_with("value: 1024\n    unit: compartments", f"value: {cores}\n    unit: compartments")
    (found,) = connections(network)
    assert found.kernel is not None
    target, source, tap = found.kernel.taps(weight.shape)
    fit = check_fit(network, profile, connections=(found,))
    (row,) = fit.rows
    assert row.synapses == found.matrix().nnz
    assert row.fan_in == np.bincount(target[weight.ravel()[tap] != 0], minlength=1).max()
    (layer,) = plan_of(network, profile).placement.layers
    numbers = np.arange(row.neurons).reshape(row.shape)
    place = np.zeros(row.neurons, dtype=int)
    for k, cell in enumerate(pieces(layer.cut)):
        place[numbers[cell]] = k
    for k in range(layer.cores):
        inside = place[target] == k
        assert layer.neurons[k] == np.count_nonzero(place == k)
        assert layer.axons_in[k] == np.unique(source[inside]).size
        assert layer.synapses[k] == np.count_nonzero(weight.ravel()[tap[inside]])
    reach = np.unique(np.stack([source, place[target]]), axis=1)[0]
    out = layer.incoming[0].fan.fan_out()
    assert layer.incoming[0].fan.reach(layer.cut).tolist() == np.bincount(reach, minlength=out.size).tolist()
    assert out.tolist() == np.bincount(source, minlength=out.size).tolist()


def test_what_is_not_public_never_fits_outright() -> None:
    fit = check_fit(dense(20, 10), load_profile("loihi2"))
    assert fit.verdict == "fits (estimate)"
    assert {"NC203", "NC204"} <= {u.code for u in fit.unchecked}
    assert fit.notes


def test_a_limit_that_turns_unknown_turns_a_fit_into_an_estimate() -> None:
    source = '"@davies2018 p. 89; @nengo-loihi block.py MAX_IN_AXONS; @nxtf optimization.py maxNumAxons"'
    profile = profile_with(
        f"value: 4096\n    unit: axons\n    source: {source}\n    confidence: documented",
        "value: null\n    unit: axons\n    source: nobody says\n    confidence: unknown",
    )
    fit = check_fit(dense(20, 10), profile)
    assert (fit.verdict, [u.code for u in fit.unchecked]) == ("fits (estimate)", ["NC203"])


def test_a_network_that_is_too_large_breaks_every_rule_at_once_and_every_fix_works() -> None:
    network = dense(4400, 900, 10, reset="subtract", spikes_per_step="many")
    made = connections(network)
    small = profile_with("value: 128, unit: cores", "value: 12, unit: cores")
    fit = check_fit(network, small, bits=7, connections=made)
    assert {"NC103", "NC105", "NC203", "NC301", "NC302"} <= codes(fit)
    assert fit.verdict == "does not fit"
    for violation in fit.violations:
        assert violation.fix
        assert violation.excess > 0
        if violation.apply:
            again = check_fit(network, small, connections=made, **{"bits": 7, **violation.apply})  # type: ignore[arg-type]
            assert (violation.code, violation.layer) not in {(v.code, v.layer) for v in again.violations}
            assert fit.totals["memory"] - again.totals["memory"] >= violation.frees * 0.99
    applied = [v.code for v in fit.violations if v.apply]
    assert {"NC105", "NC203", "NC301", "NC302"} <= set(applied)
    ratios = [v.needed / v.available for v in fit.violations]
    assert ratios == sorted(ratios, reverse=True)


def test_more_chips_are_a_fix_where_cores_run_out() -> None:
    network = chain((2, 200, 200), [Conv(weights(8, 2, 3, 3), None, (1, 1), ((1, 1), (1, 1)), (1, 1))])
    fit = check_fit(network, load_profile("loihi1"))
    (violation,) = [v for v in fit.violations if v.code == "NC301"]
    assert "chips" in violation.apply
    assert check_fit(network, load_profile("loihi1"), chips=violation.apply["chips"]).fits


def test_features_that_the_chip_lacks_are_named_with_their_fix() -> None:
    network = dense(10, 5, spikes_per_step="many", reset="subtract")
    assert codes(check_fit(network, load_profile("loihi1"))) == {"NC103"}
    assert codes(check_fit(network, load_profile("loihi2"))) == set()
    no_subtract = profile_with("{zero: native, subtract: two compartments}", "{zero: native}")
    (violation,) = [v for v in check_fit(network, no_subtract).violations if v.code == "NC102"]
    assert "--reset zero" in violation.fix
    only_if = profile_with("value: [I, IF, LI, LIF, CubaLI, CubaLIF, Threshold]", "value: [LIF]")
    (violation,) = [v for v in check_fit(network, only_if).violations if v.code == "NC101"]
    assert (violation.layer, violation.resource) == ("n0", "IF neurons")


def test_weights_behind_the_last_neurons_are_said_to_be_unchecked() -> None:
    nodes: dict[str, Node] = {"input": Input((4,)), "fc": Linear(weights(3, 4)), "n": spiking((3,)),
                              "readout": Linear(weights(2, 3)), "output": Output()}
    edges = (("input", "fc"), ("fc", "n"), ("n", "readout"), ("readout", "output"))
    fit = check_fit(Network(nodes, edges), load_profile("loihi1"))
    assert (fit.verdict, [u.resource for u in fit.unchecked]) == ("fits (estimate)", ["layer 'readout'"])


def test_a_soft_reset_in_two_compartments_halves_the_neurons_of_a_core() -> None:
    assert check_fit(dense(10, 1024), load_profile("loihi1")).cores == 1
    assert check_fit(dense(10, 1024, reset="subtract"), load_profile("loihi1")).cores == 2


@pytest.mark.parametrize(("steps", "cores", "fits"), [(7, 1, True), (8, 2, True), (62, 8, True), (63, 8, False)])
def test_long_delays_leave_room_for_fewer_neurons(steps: int, cores: int, fits: bool) -> None:
    nodes: dict[str, Node] = {
        "input": Input((10,)), "wait": Delay(np.full(10, float(steps))), "fc": Linear(weights(1024, 10)),
        "n": spiking((1024,)), "output": Output(),
    }
    edges = (("input", "wait"), ("wait", "fc"), ("fc", "n"), ("n", "output"))
    fit = check_fit(Network(nodes, edges, Conventions(dt=1.0)), load_profile("loihi1"))
    assert (fit.cores, fit.fits) == (cores, fits)
    assert fits or codes(fit) == {"NC104"}


def test_recurrent_spikes_take_axons_out_of_their_own_cores() -> None:
    nodes: dict[str, Node] = {
        "input": Input((10,)), "fc": Linear(weights(64, 10)), "n": spiking((64,)), "rec": Linear(weights(64, 64)),
        "output": Output(),
    }
    edges = (("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "output"))
    (row,) = check_fit(Network(nodes, edges), load_profile("loihi1")).rows
    assert (row.axons_in, row.axons_out, row.fan_in, row.synapses) == (74, 64, 74, 64 * 74)
    assert row.parameters == 64 * 74


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=4), bits=st.sampled_from([1, 2, 3, 4, 5, 6, 8]),
    sparsity=st.floats(0, 1), target=st.sampled_from(profile_names()), image=st.booleans(),
)
def test_what_fits_is_placed_without_breaking_a_limit(
    sizes: list[int], bits: int, sparsity: float, target: str, image: bool
) -> None:
    shape: Shape = (sizes[0],)
    layers: list[list[Node]] = []
    if image:
        shape = (2, 9, 7)
        layers += [[Conv(weights(5, 2, 3, 3), None, (1, 1), ((1, 1), (1, 1)), (1, 1))],
                   [Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0))), Flatten(), Linear(weights(sizes[0], 5 * 4 * 3))]]
    layers += [[Linear(weights(b, a))] for a, b in pairwise(sizes)]
    network = chain(shape, *layers)
    profile = load_profile(target)
    fit = check_fit(network, profile, bits, sparsity)
    plan, core = fit.plan, profile.core
    total_in, total_out = 0, 0
    for layer in plan.placement.layers:
        assert int(layer.neurons.sum()) == int(np.prod(network.shapes[layer.population]))
        assert layer.neurons.min() >= 1
        if fit.fits:
            assert layer.compartments.max() <= (core.neurons.value or np.inf)
            assert layer.memory.max() <= (Limits.of(profile).memory or np.inf)  # none where nobody says how it is used
            for used, entry in ((layer.axons_in, core.axons_in), (layer.axons_out, core.axons_out)):
                assert entry is None or entry.value is None or used.max() <= entry.value
        total_out += int(layer.axons_out.sum())
        total_in += sum(int(i.fan.load(layer.cut, i.form).axons.sum()) for i in layer.incoming
                        if i.connection.source != network.input)
    assert total_in == total_out  # every axon out of a core ends in one
    assert fit.cores == plan.placement.cores
    assert fit.fits == (not fit.violations)


@settings(max_examples=25, deadline=None)
@given(a=st.integers(1, 300), b=st.integers(1, 300), bits=st.integers(2, 8), sparsity=st.floats(0, 0.95))
def test_fewer_bits_never_need_more_memory(a: int, b: int, bits: int, sparsity: float) -> None:
    network, profile = dense(a, b), load_profile("loihi2")
    more, less = (check_fit(network, profile, k, sparsity).totals["memory"] for k in (bits, bits - 1))
    assert less <= more


def test_sparsity_keeps_the_expected_number_of_weights() -> None:
    fit = check_fit(dense(100, 50, 10), load_profile("loihi1"), sparsity=0.875)
    assert [row.synapses for row in fit.rows] == [5000 - 4375, 500 - 438]
    per_layer = check_fit(dense(100, 50, 10), load_profile("loihi1"), sparsity={"fc1": 0.5}, bits={"fc0": 4})
    assert [(row.synapses, row.bits) for row in per_layer.rows] == [(5000, 4), (250, 8)]


def test_the_check_is_the_same_every_time() -> None:
    network, profile = dense(300, 200, 20), load_profile("loihi1")
    first = check_fit(network, profile, sparsity=0.7).to_dict()
    assert first == check_fit(network, profile, sparsity=0.7).to_dict()
    assert json.loads(json.dumps(first)) == first


def test_values_out_of_range_are_refused_all_at_once() -> None:
    with pytest.raises(Refused) as caught:
        check_fit(dense(4, 3), load_profile("loihi1"), bits=0, sparsity=1.5, chips=0)
    assert len(caught.value.problems) == 3
    with pytest.raises(Refused, match="layer 'fc9'"):
        check_fit(dense(4, 3), load_profile("loihi1"), sparsity={"fc9": 0.5})


def test_a_large_dense_network_is_checked_without_its_matrix() -> None:
    assert check_fit(dense(4000, 2000, 100), load_profile("loihi2"), sparsity=0.9).fits


def test_checking_imports_no_torch() -> None:
    code = "import sys, neurocompress.fit.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.shared
@pytest.mark.parametrize("target", ["loihi1", "loihi2"])
def test_the_n_mnist_network_fits(shared: Path, target: str) -> None:
    from neurocompress.frontends.nir import read

    fit = check_fit(read(shared / "models/nir_paper/cnn/cnn_sinabs.nir"), load_profile(target))
    assert fit.fits
    assert [row.neurons for row in fit.rows] == [4096, 4096, 512, 256, 10]
    assert [row.layer for row in fit.rows] == ["0", "2", "5", "9", "11"]
    assert fit.totals["parameters"] == 816 + 2320 + 1160 + 256 * 129 + 2570
