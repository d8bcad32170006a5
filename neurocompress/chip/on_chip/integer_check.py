"""Whether a network read from a bundle's integer.npz is one that the emulator can run: the file may be anyone's.

Every number is held against what `deploy` can have written. All faults at once, each with the part that it is in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, get_args

import numpy as np
from scipy import sparse

from ...errors import Problem, Refused
from ...network.conventions import Conventions, Reading
from ...network.discrete import Step
from ...network.kernel import Kernel
from ...network.nodes import Shape
from ...network.shapes import windows
from ..arithmetic import Analog, Arithmetic
from .integer_network import IntegerNetwork, Population, Synapses
from .real_network import OnChip, RealPopulation

#: Neurons of one population, and of all; steps of a delay; bits of anything.
MAX_NEURONS, MAX_STEPS, MAX_BITS = 2**26, 10_000, 64

Said = Iterator[str]


def check_network(network: OnChip, file: str) -> None:
    """Raises `Refused` for what can not be run."""
    problems = [Problem(f"its {what}", place, "Deploy the model again", file)
                for place, what in _problems(network)]
    if problems:
        raise Refused(problems)


def _problems(network: OnChip) -> Iterator[tuple[str, str]]:
    names = [p.name for p in network.populations]
    if not all(isinstance(name, str) for name in (*names, network.input, network.output)):
        yield "", "names are not all text"
        return
    if len({*names, network.input}) != len(names) + 1 or network.output not in names:
        yield "", "populations do not have one name each, or its output is none of them"
        return
    if not all(isinstance(note, str) for note in network.notes):
        yield "", "notes are not all text"
    if not _whole(network.input_message_bits, 0, 32):
        yield "", "input_message_bits is no number from 0 to 32"
    if network.reading not in get_args(Reading):
        yield "", f"reading is none of {', '.join(get_args(Reading))}"
    sent = network.graded_input
    if sent is not None and not (
            type(sent.scale) in (int, float) and 0 < sent.scale < math.inf and _whole(sent.bits, 1, 32)
            and _whole(sent.low, -(2**31), 0) and _whole(sent.high, 0, 2**31) and sent.low < sent.high):
        yield "", "graded input has no scale or no range"
    shapes = {network.input: network.input_shape} | {p.name: p.shape for p in network.populations}
    wrong = [name for name, shape in shapes.items() if not _is_shape(shape)]
    for name in wrong:
        yield f"population '{name}'", "shape is not the shape of a population"
    if wrong or sum(map(math.prod, shapes.values())) > MAX_NEURONS:
        yield "", f"populations have more than {MAX_NEURONS} neurons, or no shape"
        return
    for what in _arithmetic(network.arithmetic):
        yield "arithmetic", what
    for p in network.populations:
        if not _whole(p.latency, 0, MAX_STEPS):
            yield f"population '{p.name}'", f"latency is no number from 0 to {MAX_STEPS}"
            return
        for what in _integer(p) if isinstance(p, Population) else _real(p):
            yield f"population '{p.name}'", what
    for s in network.synapses:
        where = f"synapses '{s.name}'"
        if not isinstance(s.name, str) or s.source not in shapes or s.target not in names:
            yield where, "source or target is no population"
        elif (s.source_shape, s.target_shape) != (shapes[s.source], shapes[s.target]):
            yield where, "shapes are not those of its populations"
        else:
            found = [*_synapses(s, isinstance(network, IntegerNetwork))]
            yield from ((where, what) for what in found)
            if not found and int(np.min(network.aligned_delay(s))) < 0:
                yield where, "delay is shorter than its population's latency"


def _whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and 0 < len(shape) <= 8 and all(_whole(n, 1, MAX_NEURONS) for n in shape)


def _spreads(value: object, shape: Shape, kinds: str) -> bool:
    """Whether a value is a number or array of numbers, all finite, that broadcasts to `shape`."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, int, float)) else np.asarray(None)
    if array.dtype.kind not in kinds or isinstance(value, bool) or array.size == 0 or array.size > math.prod(shape):
        return False
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        return False
    return fits and bool(np.all(np.isfinite(array)))


def _arithmetic(arithmetic: Any) -> Said:
    for f in fields(arithmetic):
        value = getattr(arithmetic, f.name)
        if f.name == "source":
            right = isinstance(value, str)
        elif f.name == "assumed":
            right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        elif isinstance(arithmetic, Arithmetic):
            right = type(value) is bool if f.name == "u_wraps" else _whole(value, -MAX_BITS, MAX_STEPS)
        elif isinstance(arithmetic, Analog):
            numbers = value if isinstance(value, tuple) else (value,)
            right = len(numbers) == (2 if f.name in ("tau_mem", "tau_syn") else 1) and all(
                type(n) in (int, float) and 0 <= n < math.inf for n in numbers)
        else:
            right = True
        if not right:
            yield f"{f.name} can not be used: {ascii(value)[:60]}"
    if isinstance(arithmetic, Arithmetic) and not (
            _whole(arithmetic.state_bits, 2, 31) and _whole(arithmetic.decay_bits, 1, 24)
            and _whole(arithmetic.activation_shift, 0, 31) and _whole(arithmetic.threshold_shift, 0, 31)):
        yield "registers are wider than the emulator's"


def _integer(p: Population) -> Said:
    top = 2**31
    for name in ("du", "dv", "vth", "bias_mant", "reset_by", "v_floor", "u_init", "v_init"):
        value = getattr(p, name)
        if not (name == "v_floor" and value is None) and not (
                _spreads(value, p.shape, "iu") and -top < np.min(value) and np.max(value) < top):
            yield f"{name} holds no integers for {p.shape} neurons"
    if not _spreads(p.unit, p.shape, "fiu"):
        yield f"unit holds no numbers for {p.shape} neurons"
    if not _whole(p.bias_exp, 0, 31):
        yield "bias_exp is no number from 0 to 31"
    yield from _choices(p, reset=("zero", "subtract"), fire=(">", ">="), spikes_per_step=("one", "many"))
    yield from _truths(p, "two_phase", "late_reset", "spiking")


def _real(p: RealPopulation) -> Said:
    if not isinstance(p.step, Step) or not isinstance(p.conventions, Conventions):
        yield "step or conventions are missing"
        return
    open_ = ("alpha", "gain_syn", "v_threshold")
    for f in fields(Step):
        value = getattr(p.step, f.name)
        if not (f.name in open_ and value is None) and not _spreads(value, p.shape, "fiu"):
            yield f"step.{f.name} holds no numbers for {p.shape} neurons"
    if (p.step.alpha is None) != (p.step.gain_syn is None):
        yield "step has alpha without gain_syn, or the other way round"
    for name in ("v_init", "unit"):
        if not _spreads(getattr(p, name), p.shape, "fiu"):
            yield f"{name} holds no numbers for {p.shape} neurons"


def _choices(part: object, **allowed: tuple[str, ...]) -> Said:
    for name, values in allowed.items():
        if getattr(part, name) not in values:
            yield f"{name} is none of {', '.join(values)}"


def _truths(part: object, *names: str) -> Said:
    for name in names:
        if type(getattr(part, name)) is not bool:
            yield f"{name} is neither true nor false"


def _synapses(s: Synapses, integer: bool) -> Said:
    sources, targets = math.prod(s.source_shape), math.prod(s.target_shape)
    kinds = "iu" if integer else "iuf"
    weight: Any = s.weight
    values = weight.data if sparse.issparse(weight) else weight
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds or not np.all(np.isfinite(values)):
        yield "weight holds no " + ("integers" if integer else "numbers")
    elif s.kernel is not None:
        if sparse.issparse(weight) or not isinstance(s.kernel, Kernel):
            yield "kernel does not go with its weight"
        else:
            yield from _kernel(s.kernel, weight, s.source_shape, s.target_shape)
    elif weight.shape != (targets, sources):
        yield f"weight has shape {weight.shape}, expected {(targets, sources)}"
    elif sparse.issparse(weight):
        try:
            weight.check_format(full_check=True)
        except (ValueError, IndexError, TypeError) as error:
            yield f"weight is no sparse matrix ({error})"
    limits: tuple[tuple[str, int, int], ...] = (("exponent", -MAX_BITS, 31), ("bits", 1, MAX_BITS),
                                                ("message_bits", 0, 32))
    for name, low, high in limits:
        if not _whole(getattr(s, name), low, high):
            yield f"{name} is no number from {low} to {high}"
    delay = s.extra_delay
    if not (_spreads(delay, (sources,), "iu") and np.min(delay) >= 0 and np.max(delay) <= MAX_STEPS):
        yield f"extra_delay holds no steps from 0 to {MAX_STEPS}"
    yield from _choices(s, sign=("mixed", "excitatory", "inhibitory", "beside"))
    yield from _truths(s, "feedback")


def _kernel(kernel: Kernel, weight: np.ndarray, source: Shape, target: Shape) -> Said:
    if not _is_shape(kernel.input_shape) or not _is_shape(kernel.output_shape) or (
            math.prod(kernel.input_shape), math.prod(kernel.output_shape)) != (math.prod(source), math.prod(target)):
        yield "kernel does not lead from its source to its target"
        return
    source, target = kernel.input_shape, kernel.output_shape  # a population may have the same neurons in one axis
    n = len(source) - 1
    right: Callable[[object, int], bool] = lambda value, low: (  # noqa: E731
        isinstance(value, tuple) and len(value) == n and all(_whole(v, low, MAX_NEURONS) for v in value))
    pairs = kernel.padding
    if not (n in (1, 2) and weight.ndim == n + 2 and weight.size and right(kernel.stride, 1)
            and right(kernel.dilation, 1) and isinstance(pairs, tuple) and len(pairs) == n
            and all(isinstance(p, tuple) and len(p) == 2 and all(_whole(v, 0, MAX_NEURONS) for v in p) for p in pairs)
            and _whole(kernel.groups, 1, MAX_NEURONS)):
        yield "kernel has no geometry"
        return
    padded = math.prod((source[0], *(size + sum(p) for size, p in zip(source[1:], pairs, strict=True))))
    out = (weight.shape[0], *(windows(*each) for each in zip(
        source[1:], weight.shape[2:], kernel.stride, pairs, kernel.dilation, strict=True)))
    if (kernel.input_shape, kernel.output_shape, out) != (source, target, target) or padded > MAX_NEURONS or (
            weight.shape[1] * kernel.groups != source[0] or weight.shape[0] % kernel.groups):
        yield "kernel does not lead from its source to its target"
