"""A bundle as it runs again: the chip's network, and how values reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Refused, refuse
from ..files import bundle
from ..frontends import nir as nir_file
from ..network.encoder import cut_behind
from ..network.graph import Network
from ..network.nodes import Shape

if TYPE_CHECKING:
    from ..chip.on_chip.real_network import OnChip
    from ..data.spikes import SpikeData


@dataclass(frozen=True, eq=False)
class Deployed:
    """integer: the network on its chip. host: what the host computes before it, in floating point; None for nothing.
    whole: the whole network, where the host computes what lies behind the chip's part; else None."""

    integer: OnChip
    host: Network | None
    whole: Network | None = None

    @property
    def input_shape(self) -> Shape:
        """Of the data: a picture's, where the chip receives the spikes of what the host computes."""
        return self.integer.input_shape if self.host is None else self.host.shapes[self.host.input]

    @property
    def real(self) -> bool:
        """Whether its data are real values."""
        return self.host is not None or self.integer.graded_input is not None

    def sent(self, data: SpikeData, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """What the chip receives: whole numbers, (samples, timesteps, *shape of the chip's input). Raises `Refused` for
        what its messages do not hold: the emulation would compute something else."""
        from ..data.spikes import fractions
        from ..emulation.messages import sent

        found = sent(data.spikes, self.integer.graded_input, self.host, progress)
        most = max(1, (1 << self.integer.input_message_bits) - 1)
        what = ""
        if not self.real and (count := fractions(found)):
            what = f"it holds {count} values that are no whole numbers"
        elif not self.real and found.min(initial=0) < 0:
            what = f"it holds {int(np.count_nonzero(found < 0))} negative values"
        elif found.max(initial=0) > most:
            who = "the host sends" if self.host is not None else "it holds"
            what = f"{who} up to {int(found.max())} spikes per input and step"
        if what:
            raise refuse(f"{what}, and the bundle was deployed for at most {most} per input and step", file=data.name,
                         fix="Deploy with data of this kind")
        return found

    def on_host(self, values: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Outputs of those of these nodes that the host computes."""
        from ..simulation.float import simulate

        own = [] if self.host is None else [n for n in names if n in self.host.nodes]
        if self.host is None or not own:
            return {}
        return {n: found for n, found in simulate(self.host, values, own).items() if n in own}

    def in_float(
        self, network: Network, data: SpikeData, names: tuple[str, ...], progress: Callable[[int], None]
    ) -> dict[str, np.ndarray]:
        """Outputs of the bundle's whole network, in floating point, on what its chip receives: "output" and `names`."""
        from ..simulation.float import simulate

        sent, step = self.sent(data), self.integer.graded_input
        if step is not None:
            return simulate(network, (sent * step.scale).astype(np.float32), names, progress=progress)
        parts = cut_behind(network, self.integer.input)
        if parts is None:
            raise refuse(f"its model has no part behind '{self.integer.input}'", fix="Deploy the model again")
        own = self.on_host(data.spikes, names)
        return own | simulate(parts.chip, sent, tuple(n for n in names if n not in own), progress=progress)

    def clipped(self, values: np.ndarray) -> int:
        """How many values its messages do not reach."""
        return 0 if self.integer.graded_input is None else self.integer.graded_input.clipped(values)

    def said(self, beyond: int, total: int) -> tuple[str, ...]:
        """What becomes of values on their way to the chip; `beyond` of `total` were clipped."""
        step = self.integer.graded_input
        if self.host is not None:
            return (f"'{self.integer.input}' and what leads to it are computed by the host, in floating point",)
        if step is None:
            return ()
        clip = (f"; {beyond:,} of {total:,} values lie beyond {step.low * step.scale:.4g} to "
                f"{step.high * step.scale:.4g} and are clipped" if beyond else "")
        return (f"values are sent as graded spikes of {step.bits} bits, in steps of {step.scale:.6g}{clip}",)


def deployed(folder: Path) -> Deployed:
    """A bundle, ready to run. Raises `Refused` when it is damaged."""
    from ..chip.on_chip import integer_file

    try:
        integer = integer_file.load(bundle.require(folder, bundle.INTEGER))
        host = nir_file.read(folder / bundle.HOST) if (folder / bundle.HOST).is_file() else None
        whole = nir_file.read(bundle.require(folder, bundle.MODEL)) if integer.host else None
    except Refused as refused:
        raise Refused(replace(p, fix="Deploy the model again") for p in refused.problems) from None
    if host is not None and host.shapes[host.output] != integer.input_shape:
        raise refuse(f"the host sends {host.shapes[host.output]}, the chip receives {integer.input_shape}",
                     file=str(folder / bundle.HOST), fix="Deploy the model again")
    return Deployed(integer, host, whole)
