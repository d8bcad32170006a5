"""What a NIR file leaves open, said out loud: dt, reset, firing rule, decay, delays.

NIR stores continuous-time neurons. Every platform turns them into time steps in its own way, so the
same file gives different spikes on each. A `Conventions` names one such way in full; `PRESETS` holds
those of the platforms that people export from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any, Literal

from ..errors import Problem, Refused
from ..shown import brief

Reset = Literal["zero", "subtract"]
Reading = Literal["mean", "last", "max"]


@dataclass(frozen=True)
class Conventions:
    """How continuous-time neurons become time steps; docs/conventions.md has the equations."""

    #: Seconds per time step; None when neither the file, the preset nor the user says.
    dt: float | None = None
    #: Factors per step: 1 - dt/tau ("euler"), or exp(-dt/tau) ("exponential").
    decay: Literal["euler", "exponential"] = "euler"
    #: A spike sets v to v_reset ("zero"), or takes v_threshold away ("subtract").
    reset: Reset = "zero"
    #: A neuron spikes when v > v_threshold (">"), or v >= v_threshold (">=").
    fire: Literal[">", ">="] = ">"
    #: At most "one" spike in a step, or "many": floor(v / v_threshold) spikes in one step.
    spikes_per_step: Literal["one", "many"] = "one"
    #: v never falls below -v_threshold.
    v_floor: bool = False
    #: A spike resets its neuron in the next step, after the decay: v = beta v + input - v_threshold. A reset to zero is
    #: so too, and loses what arrives in that step, in neurons with a synapse or with feedback of their own; in others
    #: it gives the same spikes as one without delay (see network.resets).
    reset_delay: bool = False
    #: The subtraction follows the state before the update: a neuron whose v is still above its threshold after its
    #: reset has v_threshold taken away before it may fire again. Without meaning under reset_delay.
    two_phase_reset: bool = False
    #: The input is scaled by r dt/tau_mem (and w_in dt/tau_syn) as the equations say ("nir"); or added unscaled, as
    #: platforms do that store one weight per step ("unit"); or added to the synaptic current unscaled, and the current
    #: to the membrane as "nir" (w_in is not read: "unit-synapse").
    gain: Literal["nir", "unit", "unit-synapse"] = "nir"
    #: The synaptic current is I <- alpha (I + x) rather than I <- alpha I + x.
    input_decays: bool = False
    #: A bias enters through the synapse like any input ("current"), or its steady state is added to the membrane from
    #: the first step on ("membrane").
    bias: Literal["current", "membrane"] = "current"
    #: A feedback connection delivers its bias in the first step already.
    recurrent_bias_at_start: bool = True
    #: v before the first step: 0 ("zero"), v_leak ("leak") or v_reset ("reset").
    start: Literal["zero", "leak", "reset"] = "zero"
    #: Time steps that every connection into a neuron takes on top of the graph.
    synaptic_delay: int = 0
    #: Time steps by which a neuron's spikes leave it late.
    output_delay: int = 0
    #: Neuron parameters that the platform does not read (it uses their neutral value); "r_without_synapse" is r of
    #: neurons that have no synaptic filter (I, IF, LI, LIF).
    ignore: tuple[str, ...] = ()
    #: As they are ("float"), or int8 by truncation with one scale per target population ("int8-per-target").
    weights: Literal["float", "int8-per-target"] = "float"
    #: Which number of an output that is no spike gives the class: its "mean" over time (or its sum), its "last" value
    #: or its "max". Spikes are counted.
    reading: Reading = "mean"

    __repr__ = brief

    @property
    def two_phase(self) -> bool:
        """Whether a subtraction is in two phases."""
        return self.two_phase_reset and self.reset == "subtract" and not self.reset_delay

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


#: The equations of the file as they stand: forward Euler, reset to v_reset, v > v_threshold.
NIR = Conventions()

#: How each platform reads a NIR file. dt is the platform's own default; None where it is in the file.
PRESETS: dict[str, Conventions] = {
    "nir": NIR,
    "norse": Conventions(
        dt=1e-3, ignore=("v_reset", "r_without_synapse"), recurrent_bias_at_start=False, start="leak"),
    "snntorch": Conventions(dt=1e-4, reset="subtract", reset_delay=True, two_phase_reset=True),
    "snntorch-nir": Conventions(dt=1e-4, two_phase_reset=True),
    "spikingjelly": Conventions(dt=1e-4, fire=">=", start="reset"),
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


#: What --convention takes, and `convention=` of the verbs in Python: values by name, or "NAME=VALUE".
Overrides = Mapping[str, object] | Iterable[str]

#: The words that a convention takes, where it takes words.
CHOICES: dict[str, tuple[str, ...]] = {
    "decay": ("euler", "exponential"), "reset": ("zero", "subtract"), "fire": (">", ">="),
    "spikes_per_step": ("one", "many"), "gain": ("nir", "unit", "unit-synapse"), "bias": ("current", "membrane"),
    "start": ("zero", "leak", "reset"),
    "weights": ("float", "int8-per-target"), "reading": ("mean", "last", "max"),
}
IGNORABLE = ("r", "r_without_synapse", "v_leak", "v_reset", "w_in")
#: More steps of delay than this are a mistake.
MOST_STEPS = 1000


def preset(name: str) -> Conventions:
    """The conventions of a platform. Raises `Refused` for an unknown name."""
    if name not in PRESETS:
        raise Refused(unknown_preset(name))
    return PRESETS[name]


def unknown_preset(name: str) -> Problem:
    return Problem(f"unknown preset '{name}'", fix=f"Known presets: {', '.join(PRESETS)}")


def wrong(name: str, value: object, file: str = "") -> Problem | None:
    """What is wrong with one convention's value, None when nothing is."""
    known = {f.name: f.default for f in fields(Conventions)}
    if name not in known:
        return Problem(f"unknown convention '{name}'", file=file, fix=f"Known: {', '.join(known)}")
    if name == "dt":
        right = value is None or (
            isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < float("inf"))
        how = "Give a positive number of seconds per time step"
    elif name in CHOICES:
        right, how = isinstance(value, str) and value in CHOICES[name], f"Use {' or '.join(CHOICES[name])}"
    elif name == "ignore":
        right = isinstance(value, (list, tuple)) and all(v in IGNORABLE for v in value)
        how = f"Use names among {', '.join(IGNORABLE)}"
    elif isinstance(known[name], bool):
        right, how = isinstance(value, bool), "Use true or false"
    else:
        right = type(value) is int and 0 <= value < MOST_STEPS
        how = f"Use a whole number of steps from 0, below {MOST_STEPS}"
    return None if right else Problem(f"{name} is {value!r}", file=file, fix=how)


def checked(values: Mapping[str, object], file: str = "") -> dict[str, Any]:
    """The values, as fields of `Conventions`. Raises `Refused` with every one that it does not know."""
    problems = [problem for name, value in values.items() if (problem := wrong(name, value, file))]
    if problems:
        raise Refused(problems)
    return {n: tuple(v) if isinstance(v, list) else float(v) if n == "dt" and v is not None else v  # type: ignore[arg-type]
            for n, v in values.items()}


def from_dict(values: Mapping[str, object], file: str = "") -> Conventions:
    """Conventions from stored values (NIR metadata, report.json). Raises `Refused` for values it does not know."""
    return replace(Conventions(), **checked(values, file))


def overrides(
    convention: Overrides = (), *, preset: str | None = None, dt: object = None, reset: object = None
) -> dict[str, Any]:
    """What a user gives instead of what a preset or a file says, by name.

    convention: values by name, or texts "NAME=VALUE" (true, false, numbers, words, names with commas between). dt,
    reset: the same as the conventions of these names. preset: only looked up. Raises `Refused` with every value that
    is wrong or given twice.
    """
    problems: list[Problem] = [] if preset is None or preset in PRESETS else [unknown_preset(preset)]
    found: dict[str, Any] = {}
    items: Iterable[tuple[str, object]]
    if isinstance(convention, Mapping):
        items = [(str(name), value) for name, value in convention.items()]
    else:
        texts = [convention] if isinstance(convention, str) else list(convention)
        for text in texts:
            if not isinstance(text, str) or "=" not in text:
                problems.append(Problem(f"convention {text!r} is no NAME=VALUE", fix="Write it so: v_floor=false"))
        items = [(name.strip(), value_of(name.strip(), value.strip())) for text in texts
                 if isinstance(text, str) and "=" in text for name, _, value in (text.partition("="),)]
    for name, value in (*items, ("dt", dt), ("reset", reset)):
        if name in ("dt", "reset") and value is None:
            continue
        if problem := wrong(name, value):
            problems.append(problem)
        elif name in found and found[name] != value:
            problems.append(Problem(f"{name} is given twice, as {found[name]} and as {value}", fix="Give it once"))
        else:
            found[name] = value
    if problems:
        raise Refused(problems)
    return checked(found)


def value_of(name: str, text: str) -> object:
    """A convention's value from the text that a user writes; the text itself where it is none."""
    if name in CHOICES:
        return text
    if name == "ignore":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def shown(value: object) -> str:
    """A convention's value as --convention takes it."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
