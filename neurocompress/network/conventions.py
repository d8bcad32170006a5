"""What a NIR file leaves open, said out loud: dt, reset, firing rule, decay, delays.

NIR stores continuous-time neurons. Every platform turns them into time steps in its own way, so the
same file gives different spikes on each. A `Conventions` names one such way in full; `PRESETS` holds
those of the platforms that people export from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ..errors import refuse

Reset = Literal["zero", "subtract"]


@dataclass(frozen=True)
class Conventions:
    """How continuous-time neurons become time steps.

    dt: seconds per time step; None when neither the file, the preset nor the user says.
    decay: "euler" factors 1 - dt/tau, or "exponential" factors exp(-dt/tau).
    reset: "zero" sets a spiking neuron's v to v_reset, "subtract" takes v_threshold away.
    fire: a neuron spikes when v > v_threshold (">") or v >= v_threshold (">=").
    spikes_per_step: "one", or "many": floor(v / v_threshold) spikes in one step.
    v_floor: v never falls below -v_threshold.
    two_phase_reset: the subtraction follows the state before the update: a neuron whose v is still above
        v_threshold after its reset has v_threshold taken away before it may fire again.
    gain: "nir" scales the input by r dt/tau_mem (and w_in dt/tau_syn) as the equations say; "unit" adds it
        unscaled, as platforms do that store one weight per step.
    input_decays: the synaptic current is I <- alpha (I + x) rather than I <- alpha I + x.
    bias: a bias enters through the synapse like any input ("current"), or its steady state is
        added to the membrane from the first step on ("membrane").
    recurrent_bias_at_start: a feedback connection delivers its bias in the first step already.
    synaptic_delay: time steps that every connection into a neuron takes on top of the graph.
    output_delay: time steps by which a neuron's spikes leave it late.
    ignore: neuron parameters that the platform does not read (it uses their neutral value); "r_without_synapse" is r
        of neurons that have no synaptic filter (I, IF, LI, LIF).
    weights: "float", or "int8-per-target": int8 by truncation with one scale per target population.
    """

    dt: float | None = None
    decay: Literal["euler", "exponential"] = "euler"
    reset: Reset = "zero"
    fire: Literal[">", ">="] = ">"
    spikes_per_step: Literal["one", "many"] = "one"
    v_floor: bool = False
    two_phase_reset: bool = False
    gain: Literal["nir", "unit"] = "nir"
    input_decays: bool = False
    bias: Literal["current", "membrane"] = "current"
    recurrent_bias_at_start: bool = True
    synaptic_delay: int = 0
    output_delay: int = 0
    ignore: tuple[str, ...] = ()
    weights: Literal["float", "int8-per-target"] = "float"

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


#: The equations of the file as they stand: forward Euler, reset to v_reset, v > v_threshold.
NIR = Conventions()

#: How each platform reads a NIR file. dt is the platform's own default; None where it is in the file.
PRESETS: dict[str, Conventions] = {
    "nir": NIR,
    "norse": Conventions(dt=1e-3, ignore=("v_reset", "r_without_synapse"), recurrent_bias_at_start=False),
    "snntorch": Conventions(dt=1e-4, two_phase_reset=True),
    "spikingjelly": Conventions(dt=1e-4, fire=">="),
    "sinabs": Conventions(
        dt=1e-3, decay="exponential", reset="subtract", fire=">=", spikes_per_step="many",
        v_floor=True, gain="unit",
    ),
    "rockpool": Conventions(
        decay="exponential", reset="subtract", spikes_per_step="many", gain="unit", input_decays=True
    ),
    "spyx": Conventions(dt=1.0, reset="subtract", gain="unit", output_delay=1, ignore=("v_leak",)),
    "spinnaker2": Conventions(dt=1.0, bias="membrane", synaptic_delay=1, weights="int8-per-target"),
    "lava": Conventions(dt=1e-4, synaptic_delay=1),
}


def preset(name: str) -> Conventions:
    """The conventions of a platform. Raises `Refused` for an unknown name."""
    if name not in PRESETS:
        raise refuse(f"unknown preset '{name}'", fix=f"Known presets: {', '.join(PRESETS)}")
    return PRESETS[name]


def from_dict(values: dict[str, Any], file: str = "") -> Conventions:
    """Conventions from stored values (NIR metadata, report.json). Raises `Refused` for values it does not know."""
    known = {f.name: f for f in fields(Conventions)}
    allowed = {
        "decay": ("euler", "exponential"), "reset": ("zero", "subtract"), "fire": (">", ">="),
        "spikes_per_step": ("one", "many"), "gain": ("nir", "unit"), "bias": ("current", "membrane"),
        "weights": ("float", "int8-per-target"),
    }
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise refuse(f"unknown convention '{name}'", file=file, fix=f"Known: {', '.join(known)}")
        if name in allowed and value not in allowed[name]:
            raise refuse(
                f"convention {name} is {value!r}", file=file, fix=f"Use one of {', '.join(allowed[name])}"
            )
        if name in ("v_floor", "two_phase_reset", "input_decays", "recurrent_bias_at_start"):
            right = isinstance(value, bool)
        elif name in ("synaptic_delay", "output_delay"):
            right = type(value) is int and 0 <= value < 1000
        else:
            right = name != "ignore" or isinstance(value, (list, tuple))
        if not right:
            raise refuse(f"convention {name} is {value!r}", file=file, fix="Write the conventions again")
        if name == "ignore":
            unknown = [v for v in value if v not in ("r", "r_without_synapse", "v_leak", "v_reset", "w_in")]
            if unknown:
                raise refuse(f"convention ignore names {unknown}", file=file,
                             fix="Use r, r_without_synapse, v_leak, v_reset, w_in")
        clean[name] = tuple(value) if name == "ignore" else value
    dt = clean.get("dt")
    if dt is not None and not (type(dt) in (int, float) and 0 < dt < float("inf")):
        raise refuse(f"dt is {dt!r}", file=file, fix="Give a positive number of seconds per time step")
    return replace(Conventions(), **clean)
