"""How the data's values reached the chip, and what that lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..data.spikes import SpikeData
from ..deployment.encoding import Encoding
from .host import HostWork, host_work


@dataclass(frozen=True)
class InputReport:
    """mode: "spikes", "graded" or "host"; why: a sentence, empty where spikes were sent as they are.

    Of graded spikes: bits of a message, its ends, the values' step, the root of the mean squared error over all data in
    the values' units and as a share of their root mean square, and how many of `values` were clipped.
    host: what the host computes before the chip. None where the mode has none.
    """

    mode: str
    why: str
    bits: int | None = None
    low: int | None = None
    high: int | None = None
    scale: float | None = None
    rms_error: float | None = None
    rms_share: float | None = None
    values: int | None = None
    clipped: int | None = None
    host: HostWork | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "host"}


def input_report(way: Encoding, data: SpikeData | None, steps: int) -> InputReport:
    """steps: of a sample. data: as given, None for synthetic spikes."""
    if way.host is not None:
        return InputReport(way.mode, way.why, host=host_work(way.host, steps))
    if way.graded is None or data is None:
        return InputReport(way.mode, way.why)
    step = way.graded
    error, rms = step.rms_error(data.spikes), step.rms(data.spikes)
    return InputReport(way.mode, way.why, step.bits, step.low, step.high, step.scale, error,
                       error / rms if rms else 0.0, int(data.spikes.size), step.clipped(data.spikes))
