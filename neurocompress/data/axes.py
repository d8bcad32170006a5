"""Which axis is which: what is wrong with the shape of spikes, and the NumPy line that mends it."""

from __future__ import annotations

from itertools import permutations
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]


class Misread(NamedTuple):
    """What is wrong with a shape and what to do. turned: nothing but the order of the axes, labels included."""

    what: str
    fix: str
    turned: bool = False


def misread(shape: Shape, input_shape: Shape | None, labels: int | None) -> Misread | None:
    """What is wrong with the shape of an array of spikes, and what to do; None where nothing is.

    input_shape: of the network, None where there is none. labels: how many there are, None without.
    Where the sizes leave more than one reading, the sentence says what is expected and guesses nothing.
    """
    axes = ", ".join(map(str, input_shape)) if input_shape is not None else "*input shape"
    expected = f"it has shape {shape}, expected (samples, timesteps, {axes})"
    if input_shape is None:
        if len(shape) < 3:
            return Misread(expected, "Reshape the data to the network's input")
        return _time_first(shape, labels)
    if shape[2:] == input_shape:
        return _time_first(shape, labels)
    if len(shape) == len(input_shape) + 2 and (turned := _turned(shape, input_shape, labels)):
        return Misread(expected, turned, True)
    return Misread(expected, _short(shape, input_shape, labels) or _flat(shape, input_shape) or "Reshape the data to "
                   "the network's input, or give data of the kind that the network was trained on")


def assumed(samples: int, steps: int, input_shape: Shape, labelled: bool) -> tuple[str, ...]:
    """How data that fit were read, where no labels tell samples from time steps: one sentence, or none."""
    if labelled:
        return ()
    axes = " x ".join(map(str, input_shape))
    return (f"the data are read as {samples} samples x {steps} timesteps x {axes}: without labels nothing tells which "
            "of the first two is time. If it is the first: numpy.swapaxes(spikes, 0, 1)",)


def _time_first(shape: Shape, labels: int | None) -> Misread | None:
    """Spikes as snnTorch and SpikingJelly have them in training, (timesteps, samples, ...): the labels tell."""
    if labels is None or shape[0] == labels or shape[1] != labels:
        return None
    return Misread(f"it has shape {shape} and there are {labels} labels, so time is its first axis and the samples are "
                   "its second", "Exchange them: numpy.swapaxes(spikes, 0, 1)", True)


def _turned(shape: Shape, input_shape: Shape, labels: int | None) -> str:
    """The transposition that gives the shape that is wanted, where its meaning is the only one."""
    fitting = [p for p in permutations(range(len(shape))) if tuple(shape[k] for k in p[2:]) == input_shape
               and labels in (None, shape[p[0]])]
    if not fitting:
        return ""
    best = min(fitting, key=_inversions)
    meant = [p for p in fitting if labels is not None or p[0] < p[1]]  # samples come before time where no label tells
    if len({p[:2] for p in meant if _inversions(p) == _inversions(best)}) != 1:
        return "Transpose the axes to (samples, timesteps, *input shape)"
    what = [text for is_so, text in (
        (best[1] == len(shape) - 1, "time is its last axis"), (best[0] == 1 and best[1] == 0, "time is its first axis"),
        (len(input_shape) == 3 and list(best[2:]) == [*sorted(best[2:])[-1:], *sorted(best[2:])[:-1]],
         "the channels come last")) if is_so]
    said = f"{', and '.join(what)}: ".capitalize() if what else ""
    return f"{said}{'t' if said else 'T'}ranspose the axes: numpy.transpose(spikes, {best})"


def _inversions(order: tuple[int, ...]) -> int:
    return sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))


def _flat(shape: Shape, input_shape: Shape) -> str:
    """Inputs that are there, but in one axis, or in more than the network has."""
    if len(shape) > 2 and prod(shape[2:]) == prod(input_shape):
        return (f"The inputs are there in another form: reshape them, spikes.reshape{(*shape[:2], *input_shape)}, "
                "if their order is the network's")
    return ""


def _short(shape: Shape, input_shape: Shape, labels: int | None) -> str:
    """The axis of samples, of time, or both are not there."""
    if shape == input_shape:
        return "The axes of samples and time are missing: spikes[None, None] is one sample of one step"
    if shape[1:] != input_shape:
        return ""
    if labels == shape[0]:
        return ("The time axis is missing: spikes[:, None] gives every sample one step, and --steps T (steps=T in "
                "Python) repeats a picture that is shown in every step")
    return (f"The time axis is missing, spikes[:, None], if these are {shape[0]} samples; the samples axis, "
            f"spikes[None], if they are {shape[0]} steps of one sample")
