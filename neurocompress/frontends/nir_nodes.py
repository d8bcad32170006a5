"""NIR's primitives, field by field: checked, then made into the nodes of a network.

Sources: nir 1.0.8, nir/ir/*.py. Shapes follow our own inference, because NIR's is wrong for kernels that are not
square and fails for groups > 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..errors import Problem
from ..network.nodes import (
    Array,
    Conv,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Pool,
    Scale,
    Shape,
    Threshold,
)
from .nir_file import MAX_BYTES
from .nir_wiring import Record

#: Fields of each primitive that must be there, and those that may be.
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": (("shape",), ()),
    "Output": ((), ("shape",)),
    "Linear": (("weight",), ()),
    "Affine": (("weight",), ("bias",)),
    "Conv1d": (("weight",), ("bias", "stride", "padding", "dilation", "groups", "input_shape")),
    "Conv2d": (("weight",), ("bias", "stride", "padding", "dilation", "groups", "input_shape")),
    "SumPool2d": (("kernel_size", "stride"), ("padding",)),
    "AvgPool2d": (("kernel_size", "stride"), ("padding",)),
    "Flatten": ((), ("start_dim", "end_dim", "input_type")),
    "Scale": (("scale",), ()),
    "Threshold": (("threshold",), ()),
    "Delay": (("delay",), ()),
    "I": (("r",), ()),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "LI": (("tau", "r", "v_leak"), ()),
    "LIF": (("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "CubaLI": (("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",)),
    "CubaLIF": (("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), ("v_reset", "w_in")),
}
INTEGERS = ("shape", "stride", "padding", "dilation", "groups", "input_shape", "kernel_size", "start_dim", "end_dim",
            "input_type")
#: Of these, the ones that may be empty (a shape that is left open), and those that are one number.
OPEN, SINGLE = ("shape", "input_shape", "input_type"), ("groups", "start_dim", "end_dim")
TIMES = ("tau", "tau_mem", "tau_syn")
#: Infinite in a neuron that never decays, as exporters write beta = 1: tau = dt / 0, r = tau / dt.
ENDLESS = (*TIMES, "r", "w_in")
#: More values than this on all edges together, padding included, is no network that a chip or a simulator takes. What
#: one value costs of the memory that a file of some size may take: below 4 MiB there may be 2^22.
MAX_SIGNAL, SIGNAL_BYTES = 2**26, 64
#: Values in one window of a pool: one of 512 x 512.
MAX_WINDOW = 2**18
#: No leak: 1 - dt/tau and exp(-dt/tau) are exactly 1, and it fits into float32.
NO_LEAK = 1e30


def check(name: str, record: Record, clip_tau: bool = False) -> list[Problem]:
    """What is wrong with a record by itself: type, fields, dtypes, values that no neuron can have.

    clip_tau: negative time constants stand for decay factors above 1, which the exporting platform clips.
    """
    where = f"node '{name}'"
    if record.type not in FIELDS:
        return [Problem(f"its type '{record.type}' is unknown (known: {', '.join(FIELDS)})", where,
                        "Was it written by a newer NIR? Replace it by these nodes")]
    where += f" ({record.type})"
    required, optional = FIELDS[record.type]
    found: list[Problem] = []
    for key in required:
        if key not in record.fields:
            found.append(Problem(f"'{key}' is missing", where, "Export the model again"))
    found += _field_problems(record, where, required + optional, clip_tau)
    threshold, reset = record.fields.get("v_threshold"), record.fields.get("v_reset", np.zeros(()))
    if isinstance(threshold, np.ndarray) and isinstance(reset, np.ndarray) and not found:
        try:
            silly = int(np.sum(threshold <= reset))
        except ValueError:
            silly = 0  # shapes that do not go together are reported with the shapes
        if silly:
            found.append(Problem(f"v_threshold is not above v_reset in {silly} of {threshold.size} values: a reset "
                                 "must take a neuron below its threshold, for weights are counted in the distance "
                                 "between them", where,
                                 "Set v_threshold to the lowest potential above v_reset that shall spike"))
    return found


def check_port(name: str, record: Record) -> list[Problem]:
    """What is wrong with the Input or Output of a nested graph. It vanishes, so it may lack its shape."""
    return _field_problems(record, f"node '{name}' ({record.type})", ("shape",), False)


def _field_problems(record: Record, where: str, known: tuple[str, ...], clip_tau: bool) -> list[Problem]:
    found: list[Problem] = []
    for key, value in record.fields.items():
        if key not in known:
            found.append(Problem(f"unknown field '{key}' (known: {', '.join(known) or 'none'})", where,
                                 "Was it written by a newer NIR? Remove the field"))
            continue
        found += [Problem(what, where, fix) for what, fix in _value_problems(key, value, clip_tau)]
    return found


def _value_problems(key: str, value: object, clip_tau: bool) -> list[tuple[str, str]]:
    if isinstance(value, str) and key == "padding":
        return [] if value in ("same", "valid") else [
            (f"padding is '{value}', expected 'same', 'valid' or numbers", "Export it with numbers")]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return [(f"'{key}' is not numeric", "Export the model again")]
    if key in INTEGERS:
        if value.ndim > 1 or (value.size and value.dtype.kind not in "iu"):
            return [(f"'{key}' holds {value.dtype} values of shape {value.shape}, expected a short list of integers",
                     "Export the model again")]
        if value.size > 32 or (value.size == 0 and key not in OPEN) or (value.size != 1 and key in SINGLE):
            expected = "one" if key in SINGLE else "1 to 32"
            return [(f"'{key}' holds {value.size} numbers, expected {expected}", "Export the model again")]
        if value.size and (np.any(value > np.iinfo(np.int32).max) or np.any(value < -np.iinfo(np.int32).max)):
            return [(f"'{key}' is {value.tolist()}, beyond any size", "Export the model again")]
        return []
    if value.dtype.kind == "b":
        return [] if key == "bias" and not np.any(value) else [
            (f"'{key}' holds booleans, expected numbers", "Store numbers")]
    if value.size == 0:
        return [(f"'{key}' is empty", "Export the model again")]
    value = numbers(value)
    fine = np.isfinite(value) | (value == np.inf) if key in ENDLESS else np.isfinite(value)
    bad = value.size - int(np.count_nonzero(fine))
    if bad:
        nan = int(np.count_nonzero(np.isnan(value)))
        what = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (bad - nan, "infinite")) if n)
        return [(f"'{key}' holds {what} of {value.size} values", "Find where training diverged and export again")]
    if key in TIMES and (np.any(value == 0) or (np.any(value < 0) and not clip_tau)):
        hint = " (if Spyx wrote the file, give --preset spyx: it clips such decays to 1)" if np.any(value < 0) else ""
        return [(f"'{key}' is not positive in {int(np.sum(value <= 0))} of {value.size} values, "
                 f"lowest {value.min():g} s", f"A time constant must be above 0: train with tau clamped{hint}")]
    if key == "delay" and np.any(value < 0):
        return [(f"'{key}' is negative: {value.min():g} s", "A delay can not look ahead: set it to 0 or more")]
    return []


@dataclass
class Reading:
    """One way to read a file's nodes, and the notes that it leaves.

    transposed: all weights are stored (inputs, outputs). kernel_strides: pools that say stride 1 move by their
    kernel. batch: the file's shapes carry a batch axis. clip_tau: as in `check`. spread_left: bytes that parameters
    given once may still take when they are spread over all neurons.
    """

    transposed: bool = False
    kernel_strides: bool = False
    batch: bool = False
    clip_tau: bool = False
    spread_left: int = MAX_BYTES
    notes: list[str] = field(default_factory=list)

    def note(self, name: str, what: str) -> None:
        self.notes.append(f"{name}: {what}.")


def numbers(value: object) -> Array:
    """A parameter as floats: float32 and float64 stay, integers become the float that holds them exactly."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float32 if array.dtype.itemsize < 4 else
                                np.float64 if array.dtype.itemsize > 8 else array.dtype, copy=False)
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)


def make(name: str, record: Record, shape: Shape, reading: Reading) -> Node:
    """The node for a signal of `shape` arriving at it. Raises ValueError with a sentence when it does not fit."""
    fields = record.fields
    if record.type == "Input":
        return Input(shape)
    if record.type == "Output":
        return _output(name, record, shape, reading)
    if record.type in ("Linear", "Affine"):
        return _linear(name, record, reading)
    if record.type in ("Conv1d", "Conv2d"):
        return _conv(name, record, shape, reading)
    if record.type in ("SumPool2d", "AvgPool2d"):
        return _pool(name, record, shape, reading)
    if record.type == "Flatten":
        return _flatten(name, record, shape, reading)
    if record.type in ("Scale", "Threshold", "Delay"):
        (key,) = FIELDS[record.type][0]
        values = _spread(name, {key: numbers(fields[key])}, shape, reading)[key]
        return Scale(values) if key == "scale" else Threshold(values) if key == "threshold" else Delay(values)
    return _neuron(name, record, shape, reading)


def _output(name: str, record: Record, shape: Shape, reading: Reading) -> Output:
    declared = tuple(int(n) for n in np.atleast_1d(np.asarray(record.fields.get("shape", []))))
    if not declared or declared == (1, *shape) or (reading.batch and declared[1:] == shape):
        if declared != shape:
            reading.note(name, f"declares shape {declared or 'nothing'}, {shape} arrives and is taken")
        return Output(shape)
    return Output(declared)


def _bias(name: str, record: Record, size: int, reading: Reading) -> Array | None:
    raw = record.fields.get("bias")
    if raw is None or not record.biased:
        return None
    if np.asarray(raw).dtype.kind == "b":
        reading.note(name, "its bias is the boolean False, read as no bias")
        return None
    bias = numbers(raw)
    if bias.shape == (1, size):
        bias = bias[0]
    elif bias.ndim == 0:
        reading.note(name, f"its scalar bias {bias:g} is given to all {size} outputs")
        bias = np.full(size, bias)
    if bias.shape != (size,):
        raise ValueError(f"its bias has shape {bias.shape}, expected ({size},)")
    return bias


def _linear(name: str, record: Record, reading: Reading) -> Linear:
    weight = numbers(record.fields["weight"])
    if weight.ndim != 2:
        raise ValueError(f"its weight has shape {weight.shape}, and only (outputs, inputs) is supported")
    if reading.transposed:
        weight = np.ascontiguousarray(weight.T)
    return Linear(weight, _bias(name, record, weight.shape[0], reading))


def _axes(record: Record, key: str, n: int, default: int, least: int) -> Shape:
    """One integer per spatial axis from a scalar or a list."""
    raw = np.atleast_1d(np.asarray(record.fields.get(key, default)))
    if raw.size not in (1, n):
        raise ValueError(f"its {key} {raw.tolist()} should hold one number or {n}")
    values = tuple(int(v) for v in np.broadcast_to(raw, (n,)))
    if min(values) < least:
        raise ValueError(f"its {key} {values} should be at least {least}")
    return values


def _conv(name: str, record: Record, shape: Shape, reading: Reading) -> Conv:
    weight = numbers(record.fields["weight"])
    n = 1 if record.type == "Conv1d" else 2
    if weight.ndim != n + 2:
        raise ValueError(f"its weight has {weight.ndim} axes, expected {n + 2} (outputs, inputs / groups, kernel)")
    stride = _axes(record, "stride", n, 1, 1)
    dilation = _axes(record, "dilation", n, 1, 1)
    (groups,) = _axes(record, "groups", 1, 1, 1)
    if weight.shape[0] % groups:
        raise ValueError(f"its {weight.shape[0]} output channels do not divide into {groups} groups")
    padding = record.fields.get("padding", 0)
    if isinstance(padding, str) and padding == "same":
        if max(stride) > 1:
            raise ValueError(f"padding 'same' with stride {stride} has no meaning; give the padding in numbers")
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pairs = tuple((span // 2, span - span // 2) for span in spans)  # the odd one at the end, as in PyTorch
    elif isinstance(padding, str):
        pairs = ((0, 0),) * n
    else:
        pairs = tuple((p, p) for p in _axes(record, "padding", n, 0, 0))
    declared = tuple(int(v) for v in np.atleast_1d(np.asarray(record.fields.get("input_shape", []), dtype=int)))
    if declared and declared[-n:] != shape[1:]:
        raise ValueError(f"it declares input_shape {declared}, got an input of shape {shape}")
    return Conv(weight, _bias(name, record, weight.shape[0], reading), stride, pairs, dilation, groups)


def _pool(name: str, record: Record, shape: Shape, reading: Reading) -> Pool:
    kernel = _axes(record, "kernel_size", 2, 1, 1)
    if math.prod(kernel) > MAX_WINDOW:
        raise ValueError(f"its kernel {kernel} sums {math.prod(kernel)} values, at most {MAX_WINDOW} are read")
    stride = _axes(record, "stride", 2, 1, 1)
    padding = _axes(record, "padding", 2, 0, 0)
    if reading.kernel_strides and stride == (1, 1) != kernel:
        reading.note(name, f"says stride (1, 1), but only a stride of its kernel {kernel} fits the layers after it")
        stride = kernel
    if len(shape) != 3:
        raise ValueError(f"needs an input (channels, height, width), got shape {shape}")
    return Pool("sum" if record.type == "SumPool2d" else "average", kernel, stride, tuple((p, p) for p in padding))


def _flatten(name: str, record: Record, shape: Shape, reading: Reading) -> Flatten:
    start, end = (int(np.asarray(record.fields.get(key, default)).item())
                  for key, default in (("start_dim", 1), ("end_dim", -1)))
    declared = tuple(int(v) for v in np.atleast_1d(np.asarray(record.fields.get("input_type", []), dtype=int)))
    if len(declared) == len(shape) + 1 or (reading.batch and not declared):
        reading.note(name, f"its axes {start} to {end} count a batch axis; read without it")
        start, end = start - (start > 0), end - (end > 0)
    elif declared and declared != shape and any(declared):
        raise ValueError(f"it declares input_type {declared}, got an input of shape {shape}")
    n = len(shape)
    if not (-n <= start < n and -n <= end < n) or start % n > end % n:
        raise ValueError(f"its axes {start} to {end} do not exist in an input of shape {shape}")
    return Flatten(start, end)


def _spread(name: str, values: dict[str, Array], shape: Shape, reading: Reading) -> dict[str, Array]:
    """Parameters as full arrays of `shape`: scalars spread, a leading batch axis of 1 dropped."""
    full: dict[str, Array] = {}
    spread: list[str] = []
    for key, array in values.items():
        if array.shape == (1, *shape):
            reading.note(name, f"the leading axis of 1 in {key} is a batch axis and was dropped")
            array = array[0]
        fits = array.ndim == len(shape) and all(a in (1, n) for a, n in zip(array.shape, shape, strict=True))
        if not fits and array.size != 1:
            raise ValueError(f"its {key} has shape {array.shape}, got an input of shape {shape}")
        if array.shape != shape:
            spread.append(key)
            reading.spread_left -= array.itemsize * math.prod(shape)
            if reading.spread_left < 0:
                raise ValueError(f"its {key}, given once, and those of the nodes before it take too much memory when "
                                 f"spread over all neurons, here {math.prod(shape)}")
            array = np.broadcast_to(array.reshape((1,) * len(shape)) if array.size == 1 else array, shape)
        full[key] = np.ascontiguousarray(array)
    if spread:
        reading.note(name, f"{', '.join(spread)} given once, used for all neurons of shape {shape}")
    return full


def _neuron(name: str, record: Record, shape: Shape, reading: Reading) -> Neuron:
    given = {key: numbers(value) for key, value in record.fields.items()}
    values = _spread(name, given, shape, reading)
    tau_mem = values.get("tau_mem", values.get("tau"))
    tau_syn, threshold = values.get("tau_syn"), values.get("v_threshold")
    if reading.clip_tau:
        tau_mem, tau_syn = _clip(name, "tau_mem", tau_mem, reading), _clip(name, "tau_syn", tau_syn, reading)
    w_in, r, v_leak = values.get("w_in"), values["r"], values.get("v_leak")
    if tau_mem is not None and tau_syn is None and np.all(np.isinf(tau_mem) & np.isinf(r)):
        kind = "I" if threshold is None else "IF"
        reading.note(name, f"tau and r are infinite: it never leaks, and is read as {kind} with r = 1")
        tau_mem, v_leak, r = None, None, np.ones_like(r)
    if tau_syn is not None and w_in is None:
        reading.note(name, "w_in is not in the file: 1, as NIR says")
        w_in = np.ones(shape, tau_syn.dtype)
    v_reset = values.get("v_reset")
    if threshold is not None and (v_reset is None or not np.any(v_reset)):
        v_reset = np.zeros(shape, threshold.dtype)
    return Neuron(shape, r, threshold, v_reset, tau_mem, v_leak, tau_syn, w_in)


def _clip(name: str, key: str, tau: Array | None, reading: Reading) -> Array | None:
    if tau is None or np.all(tau > 0):
        return tau
    reading.note(name, f"{int(np.sum(tau <= 0))} values of {key} are negative, a decay factor above 1, which Spyx "
                       "clips to 1: read as no leak")
    return np.where(tau > 0, tau, np.asarray(NO_LEAK, tau.dtype))
