"""The numbers of the profiles are those of the collection of chip facts, which somebody else wrote down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from neurocompress.chip.profile.load import describe, load_profile, profile_names


def same(value: Any) -> Any:
    return value


def one(value: Any) -> list[Any]:
    return [value]


def at(key: Any) -> Callable[[Any], Any]:
    return lambda value: value[key]


#: The chip of the facts for each profile; their entries, the key of the profile, and how a fact becomes its value.
CHIPS = {"loihi1": "loihi1", "loihi2": "loihi2", "spinnaker1": "spinnaker1", "spinnaker2": "spinnaker2",
         "brainscales2": "brainscales2", "tianjic": "tianjic", "truenorth": "truenorth", "speck2f": "speck",
         "xylo-a2": "xylo_audio2"}
SHARED: list[tuple[str, str, str, Callable[[Any], Any]]] = [
    ("loihi1", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("loihi1", "topology.boards.kapoho_bay", "topology.chips_per_board", at("kapoho_bay")),
    ("loihi1", "topology.boards.nahuku_8", "topology.chips_per_board", lambda v: v["nahuku"][0]),
    ("loihi1", "topology.boards.nahuku_32", "topology.chips_per_board", lambda v: v["nahuku"][1]),
    ("loihi1", "topology.boards.pohoiki_springs", "topology.chips_per_board", at("pohoiki_springs")),
    ("loihi1", "core.neurons", "core.neurons_max", same),
    ("loihi1", "core.synapse_memory", "core.synapse_memory_words", same),
    ("loihi1", "core.axons_in", "core.axons_in_max", same),
    ("loihi1", "core.axons_out", "core.axons_out_max", same),
    ("loihi1", "core.axon_out_entries_same_chip", "core.axon_out_entries", at("discrete_same_chip")),
    ("loihi1", "core.axon_out_entries_cross_chip", "core.axon_out_entries", at("discrete_cross_chip")),
    ("loihi1", "core.memory_per_axon", "core.synmem_words_per_axon_max", same),
    ("loihi1", "weights.bits", "weights.bits_stored_allowed", same),
    ("loihi1", "weights.signs", "weights.sign_modes", same),
    ("loihi1", "weights.exponent", "weights.weight_exponent", same),
    ("loihi1", "arithmetic.threshold_bits", "state.threshold", at("mantissa_bits")),
    ("loihi1", "arithmetic.threshold_shift", "state.threshold", at("left_shift")),
    ("loihi1", "arithmetic.state_bits", "state.v_bits", same),
    ("loihi1", "arithmetic.bias_mantissa_bits", "state.bias", at("mantissa_bits_signed")),
    ("spinnaker1", "topology.cores_per_chip", "topology.cores_per_chip", lambda v: v["usable_app"][0]),
    ("spinnaker1", "topology.boards.spin3", "topology.chips_per_board", at(0)),
    ("spinnaker1", "topology.boards.spin5", "topology.chips_per_board", at(1)),
    ("spinnaker1", "topology.memory_per_chip", "core.sdram_per_chip_usable", same),
    ("spinnaker1", "core.neurons", "core.neurons_max", same),
    ("spinnaker1", "core.memory_per_axon", "core.row_synapses_max", lambda v: 4 * (v + 3)),
    ("spinnaker1", "core.delay_slots", "core.ring_buffer_bits_max", lambda v: 2**v // 2),
    ("spinnaker1", "core.fan_in", "core.fan_in_max", same),
    ("spinnaker1", "weights.bits", "weights.bits", one),
    ("spinnaker1", "neurons.delay_max", "state.delay_max", at("with_extension_timesteps")),
    ("spinnaker1", "energy.per_synaptic_operation", "energy.e_synop_nj", lambda v: v["incremental"] * 1000),
    ("spinnaker2", "topology.cores_per_chip", "topology.usable_pe_per_chip", same),
    ("spinnaker2", "topology.boards.board_48", "topology.chips_per_board", same),
    ("spinnaker2", "core.neurons", "core.neurons_max", same),
    ("spinnaker2", "core.synapse_memory", "core.sram_per_pe", same),
    ("spinnaker2", "core.synapse_memory_reserved", "core.usable_data_sram", lambda kb: 131072 - kb * 1024),
    ("spinnaker2", "weights.default_bits", "weights.mac_array", at(0)),
    ("spinnaker2-16bit", "weights.default_bits", "weights.mac_array", at(1)),
    ("spinnaker2", "energy.per_synaptic_operation", "energy.e_synop_pj", same),
    ("spinnaker2", "energy.per_neuron_update_active", "energy.e_neuron_nj", lambda v: v * 1000),
    ("brainscales2", "core.neurons", "core.neurons_max", lambda v: v // 2),
    ("brainscales2", "topology.synapses_per_chip", "core.synapses_max", same),
    ("brainscales2", "core.synapse_memory", "core.synapses_max", lambda v: v // 2 * 6),
    ("brainscales2", "core.fan_in", "core.fan_in_signed", same),
    ("brainscales2", "weights.bits", "weights.bits", one),
    ("brainscales2", "arithmetic.tau_mem", "state.tau_mem_us", same),
    ("brainscales2", "arithmetic.tau_syn", "state.tau_syn_us", same),
    ("brainscales2", "energy.per_synaptic_operation", "energy.e_sop_pj", same),
    ("tianjic", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("tianjic", "topology.synapses_per_chip", "core.chip_synapses", same),
    ("tianjic", "core.neurons", "core.neurons_max", same),
    ("tianjic", "core.fan_in", "core.fan_in_max", same),
    ("tianjic", "core.axons_in", "core.fan_in_max", same),
    ("tianjic", "core.fan_out", "core.fan_out_max", same),
    ("tianjic", "core.synapse_memory", "core.sram_kb", lambda kb: kb * 1024),
    ("tianjic", "memory.formula", "memory_formula", same),
    ("tianjic", "weights.bits", "weights.bits", one),
    ("tianjic", "neurons.reset", "state.reset_modes", same),
    ("tianjic", "neurons.delay_max", "state.delay", same),
    ("tianjic", "energy.per_synaptic_operation", "energy.e_sop_pj", same),
    ("truenorth", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("truenorth", "topology.boards.ns1e", "topology.chips_per_board", at(0)),
    ("truenorth", "topology.boards.ns4e", "topology.chips_per_board", at(1)),
    ("truenorth", "topology.boards.ns16e", "topology.chips_per_board", at(2)),
    ("truenorth", "core.neurons", "core.neurons_max", same),
    ("truenorth", "core.axons_in", "core.axons_max", same),
    ("truenorth", "core.fan_in", "core.fan_in_max", same),
    ("truenorth", "core.synapse_memory", "core.crossbar_bits", same),
    ("truenorth", "core.destinations", "core.fan_out_targets", same),
    ("truenorth", "core.axon_types", "weights.axon_types", same),
    ("truenorth", "weights.default_bits", "weights.crossbar_bits", same),
    ("truenorth", "neurons.delay_max", "state.delay", at(1)),
    ("truenorth", "energy.per_synaptic_operation", "energy.e_sop_pj", same),
    ("truenorth", "energy.per_hop_east_west", "energy.e_hop_pj", same),
    ("speck2f", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("speck2f", "topology.chips", "topology.chips_per_board", same),
    ("speck2f", "topology.input_side_max", "core.input_max", at(0)),
    ("speck2f", "core.kernel_words", "core.kernel_words_8bit", same),
    ("speck2f", "core.neuron_words", "core.neuron_words_16bit", same),
    ("speck2f", "core.neurons", "core.neuron_words_16bit", max),
    ("speck2f", "core.bias_words", "core.bias_words", same),
    ("speck2f", "core.channels_max", "core.channels_max", same),
    ("speck2f", "core.kernel_size_max", "core.kernel_max", same),
    ("speck2f", "core.strides", "core.stride", same),
    ("speck2f", "core.padding_max", "core.padding", at(1)),
    ("speck2f", "core.pools", "core.sum_pool", same),
    ("speck2f", "core.map_side_max", "core.output_map_max", at(0)),
    ("speck2f", "core.targets_per_layer", "core.fan_out_layers", same),
    ("speck2f", "weights.bits", "weights.bits", one),
    ("xylo-a2", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("xylo-a2", "topology.inputs", "core.inputs", same),
    ("xylo-a2", "topology.hidden", "core.hidden_max", same),
    ("xylo-a2", "topology.outputs", "core.outputs", same),
    ("xylo-a2", "core.fan_in", "core.fan_in_max", same),
    ("xylo-a2", "core.fan_out", "core.fan_out_max", same),
    ("xylo-a2", "weights.bits", "weights.bits", one),
    ("loihi2", "topology.cores_per_chip", "topology.cores_per_chip", same),
    ("loihi2", "topology.boards.kapoho_point", "topology.chips_per_board", at("kapoho_point")),
    ("loihi2", "topology.boards.hala_point", "topology.chips_per_board", at("hala_point")),
    ("loihi2", "topology.synapses_per_chip", "core.synapses_per_chip_max", same),
    ("loihi2", "core.neurons", "core.neurons_max", same),
    ("loihi2", "core.synapse_memory", "core.sram_per_core", same),
    ("loihi2", "core.axons_in", "core.axons_in_max", same),
    ("loihi2", "core.axons_out", "core.axons_out_max", same),
    ("loihi2", "core.fan_in", "core.fan_in_per_neuron_max", same),
    ("loihi2", "core.fan_out", "core.fan_out_max", same),
    ("loihi2", "weights.default_bits", "weights.bits_default", same),
    ("loihi2", "weights.signs", "weights.sign_modes", same),
    ("loihi2", "neurons.delay_max", "state.delay_max", at("hw")),
    ("loihi2", "neurons.graded_spikes", "state.graded_spike_bits", same),
    ("loihi2", "arithmetic.state_bits", "state.u_bits", same),
    ("loihi2", "arithmetic.threshold_bits", "state.threshold", at("mantissa_bits")),
    ("loihi2", "arithmetic.bias_mantissa_bits", "state.bias", at("mantissa_bits_signed")),
    ("loihi2", "energy.per_synaptic_operation", "energy.e_sop_pj", same),
]
#: How sure a fact may be at most in a profile, by how it was seen.
QUOTED = {"secondary_quote", "secondary"}


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    text = (shared / "reference" / "chip-facts.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)["chips"]
    assert isinstance(found, dict)
    return found


def fact(facts: dict[str, Any], profile: str, path: str) -> dict[str, Any]:
    found: Any = facts[CHIPS[profile.removesuffix("-16bit")]]
    for key in path.split("."):
        found = found[key]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("profile", "key", "path", "made"), SHARED, ids=lambda x: x if isinstance(x, str) else "")
def test_a_number_is_that_of_the_facts(
    facts: dict[str, Any], profile: str, key: str, path: str, made: Callable[[Any], Any]
) -> None:
    row = {row["key"]: row for row in describe(load_profile(profile))}[key]
    seen = fact(facts, profile, path)
    assert row["value"] == (None if seen["value"] is None else made(seen["value"]))
    if seen["via"] in QUOTED and row["value"] is not None:  # what a third party says is not documented by the makers
        assert row["confidence"] in ("quoted", "derived"), (row["confidence"], seen["via"])
    if row["confidence"] == "documented":
        assert seen["conf"] in ("documented", "derived")


def test_every_chip_of_the_facts_that_is_installed_is_compared() -> None:
    assert {p for p, *_ in SHARED} >= set(CHIPS)
    assert set(profile_names()) >= set(CHIPS)
