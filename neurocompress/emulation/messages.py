"""Values as the whole numbers that a chip receives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..chip.on_chip.graded import Graded
from ..network.graph import Network
from ..simulation.float import simulate

#: Bytes of the host's spikes that are computed at once, four bytes each.
HOST_BYTES = 256 * 2**20


def sent(values: np.ndarray, graded: Graded | None, host: Network | None,
         progress: Callable[[int], None] | None = None) -> np.ndarray:
    """Values as messages: through a graded step, through a host network, or as they are."""
    if graded is not None:
        return graded.sent(values)
    if host is None:
        return values
    parts = []
    size = max(1, HOST_BYTES // (4 * values.shape[1] * int(np.prod(host.shapes[host.output]))))
    for start in range(0, len(values), size):
        found = simulate(host, values[start : start + size])["output"]
        parts.append(found.astype(np.uint8 if found.max(initial=0) < 256 else np.int16))
        if progress:
            progress(min(start + size, len(values)))
    return np.concatenate(parts)
