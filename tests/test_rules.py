"""Every rule: a need just at the limit breaks nothing, one above it breaks that rule and no other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_cases import CROSSBAR, LAYERED, ROOMY, codes, dense, forked, held, images, late, mixed, network, neurons

from neurocompress.chip.profile.load import load_profile
from neurocompress.chip.profile.number_formats import AnalogFormats, IntegerFormats
from neurocompress.chip.profile.schema import Neurons, Profile, Weights
from neurocompress.errors import Refused
from neurocompress.fit.check import check_fit
from neurocompress.fit.rules.all_rules import RULES, explain
from neurocompress.fit.rules.crossbars import axons_per_source
from neurocompress.network.connections import connections
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Flatten, Input, Linear, Node, Output
from neurocompress.verbs.check import check


@dataclass(frozen=True)
class Need:
    """What a network needs of one limit. coarse: what is reported is what the layer takes uncut, for cutting it would
    not be enough."""

    made: Callable[[], Network]
    key: str
    need: int
    chip: dict[str, dict[str, Any]] = field(default_factory=lambda: ROOMY)
    coarse: bool = False


NEEDS: dict[str, Need] = {
    "NC104": Need(late, "neurons.delay_max", 1),
    "NC201": Need(lambda: dense(reset="subtract"), "core.neurons", 2, coarse=True),
    "NC202": Need(dense, "core.synapse_memory", 6 * 8, coarse=True),  # one neuron of the second layer
    "NC203": Need(dense, "core.axons_in", 6),
    "NC204": Need(dense, "core.axons_out", 1, coarse=True),
    "NC205": Need(dense, "core.memory_per_axon", 8, coarse=True),
    "NC206": Need(late, "core.delay_slots", 2, coarse=True),
    "NC207": Need(dense, "core.fan_in", 6),
    "NC208": Need(dense, "core.fan_out", 3),
    "NC209": Need(dense, "core.axon_types", 9, CROSSBAR),  # 8 bits and a sign
    "NC210": Need(dense, "core.destinations", 9, CROSSBAR),
    "NC301": Need(dense, "topology.cores_per_chip", 2),
    "NC304": Need(dense, "topology.synapses_per_chip", 42),
    "NC305": Need(dense, "topology.memory_per_chip", 42),  # one byte for each synapse
    "NC306": Need(dense, "topology.inputs", 4),
    "NC307": Need(dense, "topology.hidden", 6),
    "NC308": Need(dense, "topology.outputs", 3),
    "NC309": Need(images, "topology.input_side_max", 9),
    "NC406": Need(images, "core.channels_max", 5, LAYERED),
    "NC407": Need(images, "core.kernel_size_max", 3, LAYERED),  # of the convolution, and of the matrix behind the pool
    "NC408": Need(lambda: images(padding=1), "core.padding_max", 1, LAYERED),
    "NC409": Need(images, "core.map_side_max", 7, LAYERED),
    "NC412": Need(forked, "core.targets_per_layer", 2, LAYERED),
}


@pytest.mark.parametrize("code", NEEDS)
def test_a_need_at_the_limit_fits_and_one_above_breaks_that_rule_alone(
    code: str
) -> None:
    case = NEEDS[code]
    at_limit = held(case.made(), {case.key: case.need}, case.chip)
    assert at_limit.violations == (), at_limit.violations
    above = held(case.made(), {case.key: case.need - 1}, case.chip)
    assert codes(above) == {code}
    worst = max(above.violations, key=lambda v: v.needed)
    unit = 8 if code == "NC202" else 1  # memory is reported in bytes
    assert worst.available * unit == case.need - 1
    assert worst.needed * unit > case.need if case.coarse else worst.needed * unit == case.need
    assert worst.fix


@pytest.mark.parametrize("code", NEEDS)
def test_an_unknown_limit_is_unchecked_and_never_fits(code: str) -> None:
    case = NEEDS[code]
    found = held(case.made(), {case.key: None}, case.chip)
    assert not found.violations
    assert code in {u.code for u in found.unchecked}
    assert found.verdict == "fits (estimate)"


@pytest.mark.parametrize(("made", "key", "bad", "code"), [
    (dense, "neurons.models", ["LIF"], "NC101"), (dense, "neurons.reset", {"subtract": "native"}, "NC102"),
    (lambda: dense(spikes_per_step="many"), "neurons.graded_spikes", 0, "NC103"),
    (dense, "weights.bits", [4, 6], "NC105"),
])
def test_a_feature_that_the_chip_lacks_breaks_its_rule(
    made: Callable[[], Network], key: str, bad: Any, code: str
) -> None:
    assert held(made(), {}).violations == ()
    changed = {key: bad} | ({"weights.default_bits": 4} if key == "weights.bits" else {})
    found = held(made(), changed, bits=8)
    assert codes(found) == {code}
    assert all(v.fix for v in found.violations)
    assert code in {u.code for u in held(made(), {key: None}, bits=8).unchecked}


def test_axons_of_all_types_share_the_axons_of_a_core() -> None:
    need = 6 * 9  # six sources, eight bits and a sign
    assert held(dense(), {"core.axons_in": need}, CROSSBAR).violations == ()
    found = held(dense(), {"core.axons_in": need - 1}, CROSSBAR)
    assert codes(found) == {"NC209"}
    assert found.violations[0].needed == need


def test_weights_of_one_sign_take_an_axon_less() -> None:
    made = network({"in": Input((4,)), "fc": Linear(np.ones((2, 4))), "a": neurons((2,)), "out": Output()})
    assert held(made, {"core.axon_types": 8}, CROSSBAR).violations == ()
    assert codes(held(made, {"core.axon_types": 7}, CROSSBAR)) == {"NC209"}


def test_zeros_have_no_sign() -> None:
    bits = 8
    for weight, types in ((np.eye(4), bits), (-np.eye(4), bits), (np.eye(4) - 2 * np.eye(4)[::-1], bits + 1)):
        made = network({"in": Input((4,)), "fc": Linear(weight), "a": neurons((4,)), "out": Output()})
        assert axons_per_source(connections(made)[0], bits) == types


def test_each_connection_into_a_layer_takes_its_own_types() -> None:
    nodes: dict[str, Node] = {"in": Input((4,)), "fc1": Linear(np.ones((6, 4))), "a": neurons((6,)),
                              "fc2": Linear(mixed(6, 4)), "out": Output()}
    made = network(nodes, ("in", "fc2"), ("fc2", "a"), chain=["in", "fc1", "a", "out"])
    need = 4 * 8 + 4 * 9  # four sources of one sign, and the same again of both
    assert held(made, {"core.axons_in": need, "core.axon_types": 9}, CROSSBAR).violations == ()
    assert codes(held(made, {"core.axons_in": need - 1}, CROSSBAR)) == {"NC209"}
    assert codes(held(made, {"core.axon_types": 8}, CROSSBAR)) == {"NC209"}


def test_a_neuron_sends_to_each_core_that_listens_and_inputs_are_no_neurons() -> None:
    chip = copy.deepcopy(ROOMY)
    chip["core"]["destinations"] = dict(chip["core"]["fan_out"])
    for made, changed, need in ((dense(), {"core.neurons": 3}, 1), (dense(), {"core.neurons": 2}, 2),
                                (forked(), {}, 2), (forked(), {"core.neurons": 1}, 6)):
        # 4 -> 6 -> 3: with three neurons to a core the inputs reach two cores and the six neurons one
        assert held(made, {"core.destinations": need, **changed}, chip).violations == ()
        found = held(made, {"core.destinations": need - 1, **changed}, chip)
        assert codes(found) == {"NC210"}
        assert {v.layer for v in found.violations} == {"a"}
        assert found.violations[0].needed == need


def test_what_all_chips_hold_breaks_the_rules_of_the_whole() -> None:
    # cores that keep their own limits can only hold too little together when there are too few of them
    memory = held(dense(), {"core.synapse_memory": 48, "topology.cores_per_chip": 6})
    assert codes(memory) == {"NC301", "NC302"}
    found = next(v for v in memory.violations if v.code == "NC302")
    assert (found.needed, found.available) == (42, 36)  # bytes
    many = held(dense(), {"core.neurons": 2, "topology.cores_per_chip": 4})
    assert codes(many) == {"NC301", "NC303"}
    found = next(v for v in many.violations if v.code == "NC303")
    assert (found.needed, found.available) == (9, 8)
    assert held(dense(), {"core.neurons": 3, "topology.cores_per_chip": 3}).violations == ()


def test_several_chips_have_several_times_the_room() -> None:
    for code in ("NC301", "NC304", "NC305", "NC306", "NC307", "NC308"):
        case = NEEDS[code]
        assert codes(held(case.made(), {case.key: -(-case.need // 2)})) == {code}
        assert held(case.made(), {case.key: -(-case.need // 2)}, chips=2).violations == ()
        over = held(case.made(), {case.key: (case.need - 1) // 2}, chips=2).violations
        assert [v.available for v in over if v.code == code] == [2 * ((case.need - 1) // 2)]


def test_the_longer_side_of_the_input_counts() -> None:
    for shape in ((2, 12, 3), (2, 3, 12)):
        made = network({"in": Input(shape), "flat": Flatten(), "fc": Linear(mixed(2, 72)), "a": neurons((2,)),
                        "out": Output()})
        assert held(made, {"topology.input_side_max": 12}).violations == ()
        assert codes(held(made, {"topology.input_side_max": 11})) == {"NC309"}


def test_rows_of_spinnaker_1_lie_in_blocks_of_its_chip() -> None:
    rng = np.random.default_rng(0)
    profile = load_profile("spinnaker1")
    entry = profile.topology.memory_per_chip
    assert entry is not None
    # 16 and 256 rows of 1036 bytes; the same for two cores of 256 sources each, of which the last is not trimmed
    for sources, need in ((256, 16 + 256 * 1036), (300, 16 + 2 * 256 * 1036)):
        made = network({"in": Input((sources,)), "fc": Linear(rng.normal(size=(256, sources))), "a": neurons((256,)),
                        "out": Output()})
        assert check_fit(made, profile).violations == ()
        for spare, broken in ((need, set()), (need - 1, {"NC305"})):
            less = entry.model_copy(update={"value": spare})
            topology = profile.topology.model_copy(update={"memory_per_chip": less})
            assert codes(check_fit(made, profile.model_copy(update={"topology": topology}))) == broken


def test_the_network_that_ran_on_a_xylo_fits_it_when_read_as_it_ran(shared: Path) -> None:
    model = shared / "models" / "nir_paper" / "braille" / "braille_noDelay_noBias_subtract.nir"
    said = "its neurons subtract their threshold, and keep what was above it"
    assert any(n.endswith(said) for n in check(model, "xylo-a2").notes)  # the file does not say how neurons reset
    assert check(model, "xylo-a2", reset="subtract").verdict == "fits"


def test_weights_behind_the_last_neurons_are_unchecked() -> None:
    made = network({"in": Input((4,)), "fc1": Linear(mixed(6, 4)), "a": neurons((6,)), "fc2": Linear(mixed(3, 6)),
                    "out": Output()})
    assert {u.code for u in held(made, {}).unchecked} == {"NC106"}


def test_every_rule_has_a_case_a_text_and_a_field_of_the_profile() -> None:
    elsewhere = {"NC401", "NC402", "NC403", "NC404", "NC405", "NC410", "NC411"}  # test_rules_layer_cores.py
    told = elsewhere | {"NC101", "NC102", "NC103", "NC105", "NC106", "NC302", "NC303"}
    told |= {"NC107", "NC108", "NC109", "NC110", "NC111", "NC112"}  # test_analog.py, test_rules_numbers.py
    told |= {"NC113"}  # test_verdict.py
    assert set(RULES) == told | set(NEEDS)
    for row in explain():
        assert len(row["text"]) > 30
        if row["code"] == "NC113":
            assert row["field"] in Profile.model_fields
            continue
        section, name = row["field"].split(".")
        fields = AnalogFormats.model_fields | IntegerFormats.model_fields | Weights.model_fields | Neurons.model_fields
        known = LAYERED.get(section, {}) | CROSSBAR.get(section, {})
        assert name in (fields if section in ("arithmetic", "weights", "neurons") else known)


def test_a_rule_is_explained_by_its_code() -> None:
    assert [r["code"] for r in explain("nc207")] == ["NC207"]
    with pytest.raises(Refused, match=r"no rule 'NC999'.*rules"):
        explain("NC999")
