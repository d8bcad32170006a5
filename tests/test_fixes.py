"""Every fix that is printed does what it says: its arguments, and the flags in its text, make the rule pass."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_cases import ROOMY, Change, dense, held, images, mixed, network, neurons
from test_rules import NEEDS
from tight_chips import chip, networks

from neurocompress.by_layer import of_flags
from neurocompress.chip.profile.load import load_profile, profile_names
from neurocompress.fit.check import Fit, check_fit
from neurocompress.fit.fixes import needed
from neurocompress.fit.rules.rule import Violation
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Node, Output


def pasted(text: str) -> list[dict[str, Any]]:
    """The flags of a fix, one set of arguments for each alternative in brackets."""
    found = []
    for part in re.findall(r"\((--[^()]*(?:\([^()]*\)[^()]*)*)\)", text):
        words = shlex.split(part)
        given: dict[str, list[str]] = {}
        for flag, value in zip(words[::2], words[1::2], strict=True):
            given.setdefault(flag, []).append(value)
        more: dict[str, Any] = {}
        for flag, name, kind in (("--bits", "bits", int), ("--sparsity", "sparsity", float), ("--chips", "chips", int)):
            if flag in given:
                more[name] = of_flags(flag, given.pop(flag), kind)
        if "--fan-in-policy" in given:
            (more["policy"],) = given.pop("--fan-in-policy")
        assert not given, given
        found.append(more)
    return found


def gone(violation: Violation, fit: Fit) -> bool:
    whole = violation.code.startswith("NC3")
    return not any(v.code == violation.code and (whole or v.layer == violation.layer) for v in fit.violations)


def number(text: str) -> float:
    """The amount that a fix says it then needs."""
    value, unit = re.search(r"then it needs ([\d,.e+]+) (\w+)", text).groups()  # type: ignore[union-attr]
    return float(value.replace(",", "")) * {"KiB": 1024, "MiB": 2**20, "GiB": 2**30}.get(unit, 1)


@pytest.mark.parametrize("code", NEEDS)
def test_the_fix_of_every_rule_makes_it_pass(code: str) -> None:
    case = NEEDS[code]
    changed = {case.key: case.need - 1}
    before = held(case.made(), changed, case.chip)
    for violation in before.violations:
        if violation.apply:
            assert gone(violation, held(case.made(), changed, case.chip, **violation.apply))
            assert pasted(violation.fix)
        for flags in pasted(violation.fix):
            after = held(case.made(), changed, case.chip, **flags)
            assert gone(violation, after), violation
            if "chips" not in flags and "policy" not in flags and "then it needs" in violation.fix:
                left = needed(after.plan, violation)
                assert left is not None
                assert number(violation.fix) == pytest.approx(left, rel=1e-3)
                assert left <= violation.available


@pytest.mark.parametrize(("made", "changed", "chip_of", "wanted"), [
    (lambda: dense(), {"core.fan_out": 2}, ROOMY, "on 'fc2'"),  # of what hears the neurons, not of what they hear
    (lambda: dense(), {"core.synapse_memory": 24}, ROOMY, "bit on 'fc2'"),
    (lambda: dense(), {"topology.synapses_per_chip": 20}, ROOMY, "75 % sparsity everywhere: then it needs 10 synapses"),
    (lambda: dense(), {"topology.cores_per_chip": 1}, ROOMY, "Use 2 chips (--chips 2)"),
    (lambda: dense(), {"core.fan_in": 4}, ROOMY, "Prune to 4 synapses a neuron (--fan-in-policy prune)"),
])
def test_fixes_name_the_layers_that_are_to_change(
    made: Any, changed: Change, chip_of: dict[str, dict[str, Any]], wanted: str
) -> None:
    fit = held(made(), changed, chip_of)
    assert any(wanted in v.fix for v in fit.violations), [v.fix for v in fit.violations]


def test_a_fix_beside_numbers_by_layer_names_its_layers() -> None:
    """A bare number would leave the layers alone that are named already."""
    fit = held(dense(), {"topology.synapses_per_chip": 5}, sparsity={"fc1": 0.5})
    (violation,) = fit.violations
    (flags, *_) = pasted(violation.fix)
    assert set(flags["sparsity"]) == {"fc1", "fc2"}
    assert gone(violation, held(dense(), {"topology.synapses_per_chip": 5}, **flags))
    assert gone(violation, held(dense(), {"topology.synapses_per_chip": 5}, **violation.apply))


def test_names_that_look_like_patterns_are_pasted_as_they_are() -> None:
    nodes: dict[str, Node] = {
        "in": Input((4,)), "fc [1]": Linear(mixed(6, 4)), "a": neurons((6,)), "fc 1": Linear(mixed(3, 6)),
        "b": neurons((3,)), "out": Output()}
    strange = network(nodes)
    fit = held(strange, {"core.synapse_memory": 28})
    assert fit.violations
    for violation in fit.violations:
        assert gone(violation, held(strange, {"core.synapse_memory": 28}, **violation.apply))
        for flags in pasted(violation.fix):
            assert gone(violation, held(strange, {"core.synapse_memory": 28}, **flags))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), name=st.sampled_from(["refuse", "split", "join", "loihi1", *profile_names()]),
       bits=st.sampled_from([None, 7, 4]), sparsity=st.sampled_from([None, 0.3]))
def test_fixes_of_drawn_networks_do_what_they_say(
    network: Network, name: str, bits: int | None, sparsity: float | None
) -> None:
    there = chip(name) if name in ("refuse", "split", "join", "loihi1") else load_profile(name)
    fit = check_fit(network, there, bits, sparsity)
    for violation in fit.violations:
        assert violation.fix
        if violation.apply:
            again = check_fit(network, there, **{"bits": bits, "sparsity": sparsity, **violation.apply})
            assert gone(violation, again), violation
        for flags in pasted(violation.fix):  # beside the flags that were given before
            given: dict[str, Any] = {"bits": bits, "sparsity": sparsity}
            for key in ("bits", "sparsity"):
                if isinstance(flags.get(key), dict) and given[key] is not None:
                    flags[key] = {"*": given[key], **flags[key]}
            assert gone(violation, check_fit(network, there, **{**given, **flags})), violation


def test_the_reported_fix_leads_to_what_it_says(shared: Path) -> None:
    from neurocompress.frontends.nir import read

    conv3, tianjic = read(shared / "faults/networks/conv3_64x64.nir"), load_profile("tianjic")
    fit = check_fit(conv3, tianjic, chips=6)
    (violation,) = fit.violations
    assert (violation.code, violation.layer) == ("NC208", "lif2")
    (flags,) = pasted(violation.fix)
    assert set(flags["sparsity"]) == {"conv3"}
    after = check_fit(conv3, tianjic, chips=6, **flags)
    assert after.fits
    assert after.cores <= fit.cores


def test_a_network_far_too_large_is_offered_the_chips_that_would_do() -> None:
    fit = held(dense(), {"core.neurons": 1, "topology.cores_per_chip": 1}, chips=None)
    found = next(v for v in fit.violations if v.code == "NC301")
    assert held(dense(), {"core.neurons": 1, "topology.cores_per_chip": 1}, chips=9).fits
    assert found.fix.endswith("Use 9 chips (--chips 9)")
    assert np.isfinite(found.needed)


def test_images_are_told_to_hear_fewer_sources_only_where_zeros_help() -> None:
    fit = held(images(), {"core.axons_in": 17})
    for v in fit.violations:
        for flags in pasted(v.fix):
            assert gone(v, held(images(), {"core.axons_in": 17}, **flags))
