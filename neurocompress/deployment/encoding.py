"""How values reach a chip: as spikes, as whole numbers of graded spikes, or as the spikes of what a host computes.

With direct coding a network is given the picture itself in every step, and its first layer is the encoder. A chip
receives whole numbers: 0 and 1, or more where it has graded spikes. `encoding` decides which way the values of some
data go, says why, and gives the network that the chip gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..chip.arithmetic import Arithmetic
from ..chip.on_chip.graded import Graded, graded_for
from ..chip.on_chip.units import weight_format
from ..chip.profile.features import features
from ..chip.profile.incoming import graded_width
from ..chip.profile.load import Profile
from ..data.spikes import fractions
from ..emulation.messages import sent
from ..errors import Refused, refuse
from ..network.connections import connections
from ..network.encoder import MODES, scaled, split, up_to
from ..network.graph import Network
from ..simulation.float import Peak, batches
from ..simulation.stored import as_stored
from .compress_for_chip import ChipGrids, Choice, arithmetic_of, on_chip

#: Fewest bits of a graded input that are tried before the host is asked.
FEWEST_BITS = 4


@dataclass(frozen=True, eq=False)
class Encoding:
    """mode: "spikes", "graded" or "host". network: what the chip gets; its input takes what `sent` gives. why: the
    sentence that says how values are sent, and why so. graded: the step of graded spikes. host: what the host computes,
    in floating point. None where the mode has none."""

    mode: str
    network: Network
    why: str
    graded: Graded | None = None
    host: Network | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What a reader of the report must not have to look for."""
        return (self.why,) if self.why else ()

    def sent(self, values: np.ndarray, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """What the chip receives for values (samples, timesteps, *input shape): whole numbers, (samples, timesteps,
        *shape of the chip's input)."""
        return sent(values, self.graded, self.host, progress)


def encoding(
    network: Network, profile: Profile, values: np.ndarray | None, calibration: np.ndarray, asked: str, file: str
) -> Encoding:
    """The way of the data's values to the chip.

    values: all data, (samples, timesteps, *input shape), None where there are none; calibration: those that choose
    the step, or synthetic spikes. asked: one of MODES. file: where the data came from. Raises `Refused` for a mode that
    the chip or the data do not allow.
    """
    if asked not in MODES:
        raise refuse(f"--input is '{asked}'", fix=f"Choose one of {', '.join(MODES)}")
    found = _chosen(network, profile, values, calibration, asked, file)
    if found.mode == "spikes" or values is None or values.shape[1] > 1:
        return found
    return replace(found, why=f"{found.why}; the data hold one time step (--steps T repeats static pictures)")


def _chosen(
    network: Network, profile: Profile, values: np.ndarray | None, calibration: np.ndarray, asked: str, file: str
) -> Encoding:
    data = calibration if values is None else values
    unwhole, most = fractions(data), int(data.max(initial=0))
    negative = int(np.count_nonzero(data < 0)) if data.min(initial=0) < 0 else 0
    width = features(profile).graded_bits
    plain = not unwhole and not negative and (most <= 1 or most.bit_length() <= width)
    what = (f"{unwhole:,} of {data.size:,} values are no whole numbers" if unwhole else
            f"{negative:,} of {data.size:,} are negative values" if negative else
            f"up to {most} spikes come per input and step")
    if asked == "spikes" or (asked == "auto" and plain):
        if not plain:
            raise refuse(f"{what}, and {profile.title} receives "
                         + ("whole numbers from 0" if width else "one spike per input and step, or none"), file=file,
                         fix=_ways(bool(width), bool(unwhole or negative)))
        return Encoding("spikes", network, "" if asked == "auto" else "values are sent as they are (--input spikes)")
    if asked == "graded" and values is None:
        raise refuse("the step of graded spikes is chosen on data, and there are none", fix="Give --data")
    if asked == "graded" or (asked == "auto" and width > 1):
        step = _granted(network, profile, calibration, graded_width(profile))
        if step is not None:
            return Encoding("graded", scaled(as_stored(network), step.scale),
                            _graded(step, "" if asked == "graded" else what, data), graded=step)
        if asked == "graded":
            raise refuse(f"not even {FEWEST_BITS} bits of it let the first layer's thresholds lie in the range of "
                         f"{profile.title}", where=f"input '{network.input}'", file=file,
                         fix="Use --input host, or rescale the first layer's weights together with its thresholds")
        what += f", and not even {FEWEST_BITS} bits of graded spikes let the first layer's thresholds lie in range"
    elif asked == "auto":
        if not unwhole and not negative:
            what += " (`neurocompress events --binary` keeps one, which needs no host)"
        what += f", and {profile.title} has no graded spikes" + ("" if profile.neurons.graded_spikes.value == 0 else
                                                                  " that are public")
    return _by_host(network, profile, "" if asked == "host" else what)


def _by_host(network: Network, profile: Profile, why: str) -> Encoding:
    try:
        parts = split(network)
    except Refused as refused:
        if not why:
            raise
        raise Refused(replace(p, what=f"{why}, so the host would compute the first layer; but {p.what}")
                      for p in refused.problems) from None
    host, rule = parts.host, network.conventions
    if rule.spikes_per_step == "many" and not features(profile).graded_bits:
        host = replace(host, conventions=replace(rule, spikes_per_step="one"))
    said = (f"the host computes '{parts.encoder}' and what leads to it in floating point, and sends its spikes: "
            + (why or "--input host"))
    return Encoding("host", parts.chip, said, host=host)


def _ways(graded: bool, real: bool) -> str:
    fix = ("Encode the values as spikes: whole numbers per step" if real else
           "Keep one spike per input and step (`neurocompress events --binary`)")
    return f"{fix}; or use --input " + ("graded or --input host" if graded else "host")


def _graded(step: Graded, why: str, data: np.ndarray) -> str:
    beyond = step.clipped(data)
    clip = f"; {beyond:,} of {data.size:,} values lie beyond and are clipped" if beyond else "; none is clipped"
    return (f"values are sent as graded spikes of {step.bits} bits, {step.low} to {step.high} in steps of "
            f"{step.scale:.6g} ({why or '--input graded'}): the root of the mean squared error is "
            f"{step.rms_error(data):.3g}{clip}")


def _granted(network: Network, profile: Profile, calibration: np.ndarray, bits: int) -> Graded | None:
    """The widest step, of at most `bits`, at which the first layer's weights take at least half of the chip's levels: a
    fine input makes a unit of it small beside the threshold."""
    fmt, (arithmetic, _) = weight_format(profile, None), arithmetic_of(profile)
    if not isinstance(arithmetic, Arithmetic):
        return graded_for(calibration, bits)
    network = as_stored(network)
    peaks: dict[str, Peak] = {}
    first = sorted({c.target for c in connections(network) if c.source == network.input})
    for _ in batches(up_to(network, first), calibration, first, peaks=peaks):
        pass
    for width in range(bits, min(FEWEST_BITS, bits) - 1, -1):
        step = graded_for(calibration, width)
        made = on_chip(scaled(network, step.scale), profile)[0]
        grids = ChipGrids.of(made, fmt, {}, arithmetic)
        shares: list[float] = []
        for population in first:
            ends: dict[str, np.ndarray] = {}
            for c in grids.into[population]:
                if c.trained:
                    largest = np.array([[grids.reaches[population].weights[c.name] or 1.0]])
                    ends[c.layer] = np.maximum(largest, ends.get(c.layer, 0.0))
            choice = grids.grids(population, ends, dict.fromkeys(ends, 1), peaks.get(population)).choice
            assert isinstance(choice, Choice)
            shares += choice.shares.values()
        if all(share >= 0.5 for share in shares):
            return step
    return None
