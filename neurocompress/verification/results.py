"""What `simulate` and `compare` give back: data, for people, JSON and Python alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..shown import listed, percent
from .reading import Potential

if TYPE_CHECKING:
    from ..emulation.emulator import Overflow
    from .verify import Change, Run


@dataclass(frozen=True, eq=False)
class Simulation:
    """arrays: "output" and every recorded node, (samples, timesteps, *shape); of a stream of batches only what was
    recorded. accuracy: percent, None without labels. overflow: of the emulator, by population. mismatches: Lava against
    the emulator, by population, when Lava ran. seconds_per_step: of Lava. rates: of the output and every recorded node,
    share of neurons and steps with a spike; potentials: of those that send no spikes. read_by: how the class is read.
    titles: what people are shown instead of names that are
    numbers."""

    engine: str
    arrays: dict[str, np.ndarray]
    classes: np.ndarray
    accuracy: float | None
    overflow: dict[str, Overflow]
    mismatches: dict[str, int] | None
    seconds_per_step: float | None
    notes: tuple[str, ...]
    samples: int
    steps: int
    rates: dict[str, float]
    titles: Mapping[str, str]
    potentials: dict[str, Potential]
    read_by: str

    def __repr__(self) -> str:
        head = f"Simulation ({self.engine}): {self.samples:,} samples of {self.steps} steps, {percent(self.accuracy)}"
        return listed(head, (f"arrays[{name!r}]: {a.dtype} {a.shape}" for name, a in self.arrays.items()),
                      (f"{name}: {rate:.4f} values per neuron and step are not 0" for name, rate in self.rates.items()),
                      self.notes)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks on the same data. accuracy: percent of A and B, None without labels. agreement: percent of samples
    given the same class. populations: those that both have."""

    a: str
    b: str
    samples: int
    accuracy: tuple[float, float] | None
    agreement: float
    populations: tuple[Change, ...]
    runs: tuple[Run, Run]
    notes: tuple[str, ...]
    titles: Mapping[str, str]

    def __repr__(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {self.accuracy[0]:.2f} % and {self.accuracy[1]:.2f} %"
        return listed(f"Comparison of {self.a} and {self.b}", (
            f"{self.samples:,} samples, {self.agreement:.2f} % of them given the same class{right}",), (
            f"{c.population}: {c.rate_before:.4f} and {c.rate_after:.4f} spikes per neuron and step, "
            f"{c.mismatches:,} values differ" for c in self.populations), self.notes)
