"""Numbers as people read them: with units, and no more digits than mean something."""

from __future__ import annotations

import math


def count(value: float | None) -> str:
    """12,345; above ten million 12.3 M and so on; fractions below 100 keep three digits; a dash for None."""
    if value is None:
        return "–"
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= 10 * size:
            return f"{value / size:,.1f} {name}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def size(count_of_bytes: float) -> str:
    """Bytes with a binary prefix: 820 B, 12.4 KiB, 3.1 MiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count_of_bytes >= unit:
            return f"{count_of_bytes / unit:,.1f} {name}"
    return f"{count_of_bytes:,.0f} B"


def amount(value: float, unit: str) -> str:
    """A number with its unit; bytes get a prefix, and one chip is no "1 chips"."""
    if unit == "bytes":
        return size(value)
    return f"{count(value)} {unit.removesuffix('s') if value == 1 else unit}"


def percent(value: float | None, digits: int = 2) -> str:
    """A percentage as reports hold them, 0 to 100; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f} %"


def share(value: float) -> str:
    """A share of 1 as a percentage; what is small but not nothing does not read as 0."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < value < 1 else f"{100 * value:.1f} %"


def rate(value: float | None) -> str:
    """Spikes per neuron and step; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 10 else f"{value:,.1f}"


def joules(value: float) -> str:
    """Energy with a prefix: 3.2 µJ."""
    for factor, name in ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")):
        if value >= factor:
            return f"{value / factor:.3g} {name}"
    return f"{value / 1e-12:.3g} pJ"


def change(before: str, after: str) -> str:
    """"a → b", or the one value where nothing changed."""
    return before if before == after else f"{before} → {after}"
