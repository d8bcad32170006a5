"""Rules without which a network has no form on a chip: at the limit it is deployed, one above `check` and `deploy`
refuse it with the same rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rule_cases import codes, network
from tight_chips import chip

from neurocompress.chip.on_chip.reach import reach
from neurocompress.chip.profile.load import load_profile
from neurocompress.compression.recipe import Recipe
from neurocompress.deployment.compress_for_chip import compress_for
from neurocompress.deployment.compressed import Compressed
from neurocompress.errors import Refused, Unfit
from neurocompress.fit.check import check_fit, with_rounding
from neurocompress.network.connections import Connection
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Input, Linear, Neuron, Node, Output, Pool
from neurocompress.verbs.check import check

LOIHI1, TIANJIC = load_profile("loihi1"), load_profile("tianjic")


def small(weight: float = 1.0, bias: float = 0.0, r: np.ndarray | float = 1.0, reset: float = 0.0,
          kind: str = "IF") -> Network:
    """4 -> 3 -> 2; the first neurons have these numbers, and thresholds one above their reset."""
    ones = np.ones(3)
    first = Neuron((3,), r * ones, None if kind == "I" else reset + ones, None if kind == "I" else reset * ones)
    nodes: dict[str, Node] = {
        "in": Input((4,)), "fc": Linear(np.full((3, 4), weight), np.full(3, bias)), "a": first,
        "fc2": Linear(np.ones((2, 3))), "b": Neuron((2,), np.ones(2), np.ones(2), np.zeros(2)), "out": Output()}
    return network(nodes)


def image(r: np.ndarray, weight: float = 1.0) -> Network:
    """A convolution in front of 1 x 2 x 2 neurons with these gains."""
    ones = np.ones((1, 2, 2))
    nodes: dict[str, Node] = {
        "in": Input((1, 3, 3)), "conv": Conv(np.full((1, 1, 2, 2), weight), None, (1, 1), ((0, 0),) * 2, (1, 1)),
        "a": Neuron((1, 2, 2), r.reshape(1, 2, 2), ones, 0 * ones), "out": Output()}
    return network(nodes)


#: Loihi: 24 bit states, thresholds of 17 bits x 64, biases of 12 bits x 2^7, weights up to 127 x 2 x 2^7.
CASES: dict[str, tuple[Callable[[float], Network], float]] = {
    "NC109": (lambda x: small(weight=x), 127 * 2 * 2**7),
    "NC110": (lambda x: small(bias=x), 4095 * 2**7 / 64),
    "NC111": (lambda x: image(np.array([1.0, 1.0, 1.0, x]), 1e-4), (2**17 - 1)),
}


def made(net: Network, profile: object = LOIHI1) -> Compressed:
    return compress_for(net, profile, None, Recipe(method="rtn"))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", CASES)
def test_a_number_at_the_limit_is_built_and_one_above_is_refused_with_its_rule(code: str) -> None:
    case, limit = CASES[code]
    assert codes(check_fit(case(limit * 0.999), LOIHI1)) == set()
    assert made(case(limit * 0.999)).integer.populations
    above = check_fit(case(limit * 1.001), LOIHI1)
    assert codes(above) == {code}
    assert all(v.fix for v in above.violations)
    with pytest.raises(Unfit, match=code):
        made(case(limit * 1.001))


def test_a_reset_far_from_rest_is_a_violation() -> None:
    assert codes(check_fit(small(reset=2e5), LOIHI1)) == {"NC110"}
    assert codes(check_fit(small(reset=1e4), LOIHI1)) == set()
    assert made(small(reset=1e4)).integer.populations


def test_potentials_drive_no_neurons() -> None:
    for name in ("loihi1", "loihi2", "spinnaker2", "tianjic"):
        assert codes(check_fit(small(kind="I"), load_profile(name))) == {"NC108"}
        with pytest.raises(Unfit, match="NC108 a"):
            made(small(kind="I"), load_profile(name))


def test_a_bias_near_its_register_takes_a_coarser_threshold_and_keeps_its_value() -> None:
    (a, _) = made(small(bias=300.0)).integer.populations
    held = a.bias_mant.astype(float) * 2.0**a.bias_exp / (a.vth * 64)
    assert np.allclose(held, 300.0, rtol=0.01)
    assert int(np.max(a.vth)) <= 4095 * 2**7 / 64 / 300


def test_weights_far_below_the_threshold_take_what_levels_there_are_and_it_is_said() -> None:
    found = made(small(weight=2e-5))
    assert any("small beside the thresholds of 'a'" in note for note in found.notes)
    assert check_fit(small(weight=2e-5), LOIHI1).fits


def test_neurons_whose_gains_differ_within_a_channel_have_thresholds_in_proportion() -> None:
    gains = np.array([1.0, 2.0, 4.0, 0.5])
    (a,) = made(image(gains)).integer.populations
    vth = np.broadcast_to(a.vth, (1, 2, 2)).ravel()
    assert np.allclose(vth * gains, vth[0], rtol=1e-3)


@pytest.mark.parametrize("profile", [LOIHI1, TIANJIC], ids=["loihi1", "tianjic"])
def test_sums_behind_overlapping_pools_stay_on_the_grid(profile: object) -> None:
    rng = np.random.default_rng(3)
    ones = np.ones((2, 2, 2))
    nodes: dict[str, Node] = {
        "in": Input((2, 6, 6)), "pool": Pool("sum", (3, 3), (1, 1), ((0, 0), (0, 0))),
        "conv": Conv(rng.normal(1, 1, (2, 2, 3, 3)), None, (1, 1), ((0, 0),) * 2, (1, 1)),
        "a": Neuron((2, 2, 2), ones, 9 * ones, 0 * ones), "out": Output()}
    found = made(network(nodes), profile)
    (synapses,) = found.integer.synapses
    values = synapses.weight if isinstance(synapses.weight, np.ndarray) else synapses.weight.data
    assert np.max(np.abs(values)) <= 127 * found.fmt.lsb
    assert np.max(np.abs(values)) > 90 * found.fmt.lsb  # and use it
    assert not any("lie beyond" in note for note in found.integer.notes)


def test_a_fixed_connection_is_scaled_by_each_neuron_s_own_gain() -> None:
    gains = np.array([1.0, 2.0, 4.0, 0.5])
    nodes: dict[str, Node] = {"in": Input((4,)), "a": Neuron((4,), gains, np.ones(4), np.zeros(4)), "out": Output()}
    chip = made(network(nodes)).integer
    (synapses,), (a,) = chip.synapses, chip.populations
    one = synapses.matrix().diagonal() * 2.0**synapses.exponent / np.broadcast_to(a.vth, (4,))
    assert np.allclose(one, gains, rtol=0.02)


@pytest.mark.parametrize("bits", [7, 9])
def test_bits_that_a_chip_has_not_are_one_verdict(bits: int, tmp_path: Path) -> None:
    from neurocompress.backends import backend
    from neurocompress.verbs.deploy import deploy

    backend("nir").write(small(), tmp_path / "m.nir")
    assert codes(check(tmp_path / "m.nir", "loihi1", bits=bits)) == {"NC105"}
    with pytest.raises(Unfit, match="NC105"):
        deploy(tmp_path / "m.nir", "loihi1", bits=bits, method="rtn")
    with pytest.raises(Refused):
        check(tmp_path / "m.nir", "loihi1", bits=99)


def driving_itself(weight: float, **rule: object) -> Network:
    one = np.ones(2)
    nodes: dict[str, Node] = {
        "in": Input((2,)), "fc": Linear(np.eye(2)), "a": Neuron((2,), one, one, 0 * one),
        "rec": Linear(np.full((2, 2), weight)), "out": Output()}
    return network(nodes, ("a", "rec"), ("rec", "a"), chain=["in", "fc", "a", "out"], **rule)


def test_spikes_that_multiply_in_a_loop_are_decided_by_deploy() -> None:
    many = {"spikes_per_step": "many", "reset": "subtract"}
    loihi2 = load_profile("loihi2")
    growing = check_fit(driving_itself(0.5, **many), loihi2)
    assert growing.verdict == "decided by deploy"
    assert [(u.code, u.layer) for u in growing.undecided] == [("NC112", "a")]
    assert growing.to_dict()["undecided"][0]["code"] == "NC112"
    for calm in (driving_itself(0.49, **many), driving_itself(0.5, reset="subtract")):
        assert check_fit(calm, loihi2).verdict == "fits (estimate)"


def test_what_rounding_may_free_is_decided_by_deploy() -> None:
    """Nine synapses where eight are allowed: the ninth is smaller than a step of the grid, or it is not."""
    for last, verdict in ((0.5 / 127, "decided by deploy"), (1.5 / 127, "does not fit")):
        weight = np.array([[*np.ones(8), last]])
        made_of = network({"in": Input((9,)), "fc": Linear(weight), "a": Neuron((1,), *np.ones((2, 1)), np.zeros(1)),
                           "out": Output()})
        found = with_rounding(check_fit(made_of, chip("refuse")))
        assert (found.verdict, found.fits, codes(found)) == (verdict, False, {"NC207"})


def test_one_bit_of_both_signs_is_a_width_that_loihi_has_not(tmp_path: Path) -> None:
    """Lava, weightutils: one bit of mixed signs is -256 or 0."""
    from neurocompress.backends import backend

    backend("nir").write(small(), tmp_path / "m.nir")
    found = check(tmp_path / "m.nir", "loihi1", bits=1)
    assert codes(found) == {"NC105"}
    assert {v.apply["bits"] for v in found.violations} == {2}
    assert codes(check(tmp_path / "m.nir", "loihi1", bits=2)) == set()
    assert codes(check(tmp_path / "m.nir", "spinnaker2", bits=1)) == set()


def test_a_search_that_prunes_leaves_the_verdict_to_deploy(shared: Path) -> None:
    from neurocompress.verbs.check import check_compressed

    folder = shared / "faults/networks"
    fit, found = check_compressed(folder / "fit-crash-1069.nir", folder / "tight.yaml")
    assert found.fits
    assert fit.fits
    assert (fit.verdict, {u.code for u in fit.undecided} > set()) == ("decided by deploy", True)


@pytest.mark.filterwarnings("error")
def test_weights_beyond_every_number_in_thresholds_are_infinitely_far() -> None:
    neuron = Neuron((2,), np.array([1e200, 1.0]), np.array([1e-5, 1.0]), np.zeros(2), np.full(2, 2.0), np.zeros(2))
    weight = np.full((2, 3), 1e150)
    c = Connection("fc", "in", "n", weight, None, None, (3,), (2,))
    found = reach(neuron, [c], (2,), Conventions(dt=1.0))
    assert found.weights["fc"] == np.inf
