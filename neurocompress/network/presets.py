"""What each preset stands for, and how it is known: the data behind `neurocompress presets`, README and docs.

The conventions themselves are `conventions.PRESETS`. `and_` is what the columns dt, decay, reset and fire do not say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import Refused
from .conventions import CHOICES, PRESETS, Conventions, shown, unknown_preset


@dataclass(frozen=True)
class Facts:
    """and_: what else is particular, in a line. evidence: how it is known. recorded: by what the platform itself
    computed, which a test reproduces, and not by reading alone."""

    and_: str
    evidence: str
    recorded: bool


PRESET_FACTS: dict[str, Facts] = {
    "nir": Facts(
        "the equations as NIR has them",
        "the equations; every convention against a scalar loop in plain Python (hypothesis)", False),
    "norse": Facts(
        "ignores `v_reset`, and `r` of IF and LIF; v starts at `v_leak`, a feedback bias one step late; its own "
        "exports need `--dt 1e-6`",
        "recorded Braille activity (256 steps x 38 recurrent neurons): 0 mismatches; LIF trace: 0 mismatches, v within "
        "1e-6; LIFBoxCell and LIFCell networks that Norse 1.1.0 exported and ran: 0 mismatches; 18 drawn ones, live in "
        "the tests: 0 mismatches, and LIBoxCell readouts within 1e-5", True),
    "snntorch": Facts(
        "as it is trained: a spike resets in the next step, after the decay; `--reset zero` too",
        "networks that snnTorch 1.0.0 exported and ran (Leaky, Synaptic, RLeaky, convolutions; resets subtract and "
        "zero, delayed and not; beta = 1): 0 mismatches; 92 drawn ones, live in the tests: 0 mismatches", True),
    "snntorch-nir": Facts(
        "what its NIR importer builds; with `--reset subtract` it subtracts in two phases",
        "recorded Braille activity with reset zero and with `--reset subtract`: 0 mismatches; LIF trace: 0 mismatches; "
        "12 drawn networks that snnTorch 1.0.0 imports and runs in the tests: 0 mismatches", True),
    "spikingjelly": Facts(
        "v starts at `v_reset`",
        "60 drawn networks that SpikingJelly 2.0.0 exports and runs in the tests (IF, LIF, PLIF, CUBALIF; 4 with "
        "convolutions): 0 mismatches", True),
    "sinabs": Facts(
        "several spikes per step, floor at -threshold, input unscaled; time constants in steps",
        "networks that sinabs 2.0.3 exported and ran (with and without floor, one spike a step): 0 mismatches; 48 "
        "drawn ones, live in the tests (IAF, LIF with and without normalised input): 0 mismatches; "
        "accuracy on 800 N-MNIST recordings at least 98.4 % (paper: 98.47 % on the full test set)", True),
    "rockpool": Facts(
        "several spikes per step, input decays at once, unscaled",
        "read from its NIR importer; **no recorded trace was available**", False),
    "spyx": Facts(
        "input unscaled, `v_leak` ignored, spikes one step late", "recorded Braille activity: 0 mismatches", True),
    "spinnaker2": Facts(
        "int8 weights per target, bias on the membrane, one step per connection",
        "recorded Braille activity of SpiNNaker 2 (int8 weights): 0 mismatches", True),
    "lava": Facts(
        "one step per connection", "LIF trace of Lava's fixed-point simulation: 0 mismatches", True),
}

#: What each convention is, in a line; docs/conventions.md and `Conventions` say it in full.
MEANINGS: dict[str, str] = {
    "dt": "seconds per time step",
    "decay": "factors 1 - dt/tau or exp(-dt/tau)",
    "reset": "a spike sets v to v_reset, or takes v_threshold away",
    "fire": "a neuron spikes when v is above its threshold, or at it too",
    "spikes_per_step": "at most one spike per step, or as many as thresholds fit into v",
    "v_floor": "v never falls below -v_threshold",
    "reset_delay": "the reset comes in the step after the spike, after the decay",
    "two_phase_reset": "a neuron still above its threshold after its reset must pass one more to fire",
    "gain": "input scaled by r dt/tau as NIR has it, or added unscaled (to the synapse only)",
    "input_decays": "what arrives decays in the step in which it arrives",
    "bias": "a bias passes the synapse, or stands on the membrane in full",
    "recurrent_bias_at_start": "a feedback connection delivers its bias in the first step",
    "start": "v before the first step: 0, v_leak or v_reset",
    "synaptic_delay": "steps that every connection into neurons takes",
    "output_delay": "steps by which spikes leave a neuron late",
    "ignore": "parameters that the platform does not read",
    "weights": "as stored, or int8 with one scale per target population",
    "reading": "the number of an output that never spikes that gives the class",
}


def flag(name: str, value: object) -> str:
    """The flag that would change a convention from `value`."""
    if name == "dt":
        return "--dt X"
    if name in CHOICES:
        first, *more = [v for v in CHOICES[name] if v != value]
        if name == "reset":
            return f"--reset {first}"
        wanted = f"'{name}={first}'" if ">" in first else f"{name}={first}"  # the shell would redirect it
        return f"--convention {wanted}" + "".join(f", or {name}={v}" for v in more)
    if isinstance(getattr(Conventions(), name), bool):
        return f"--convention {name}={shown(not value)}"
    return f"--convention {name}=" + ("NAMES" if name == "ignore" else "N")


def rows(name: str | None = None) -> list[dict[str, Any]]:
    """Every preset, or one of them, as plain data. Raises `Refused` for an unknown name."""
    if name is not None and name not in PRESETS:
        raise Refused(unknown_preset(name))
    return [{"name": n, "conventions": rule.to_dict(), "and": PRESET_FACTS[n].and_.replace("`", ""),
             "evidence": PRESET_FACTS[n].evidence.replace("`", "").replace("**", ""),
             "recorded": PRESET_FACTS[n].recorded} for n, rule in PRESETS.items() if name in (None, n)]


def details(name: str) -> list[tuple[str, str, str, str]]:
    """Convention, its value in a preset, what it is, and the flag that changes it; all of them."""
    rule = PRESETS[name]
    return [(f.name, value_text(f.name, getattr(rule, f.name)), MEANINGS[f.name], flag(f.name, getattr(rule, f.name)))
            for f in fields(Conventions)]


def value_text(name: str, value: object) -> str:
    if name == "dt":
        return "from the file" if value is None else f"{value:g} s"
    return shown(value) or "nothing"
