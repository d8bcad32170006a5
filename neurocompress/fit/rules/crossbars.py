"""The rules of fitting of crossbars of one bit, whose weights are made of axons of several types (TrueNorth)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...network.connections import Connection
from .rule import Case, Finding, Violation, limit_of, rule


def axons_per_source(connection: Connection, bits: int) -> int:
    """Axons that make up a weight of `bits` bits: one for each (1, 2, 4 ...), and one more where both signs occur."""
    weight = connection.weight if isinstance(connection.weight, np.ndarray) else connection.weight.data
    return bits + int(bool((weight > 0).any() and (weight < 0).any()))


@rule("NC209", "core.axon_types", "bits")
def axon_types(case: Case) -> Iterator[Finding]:
    """A weight of b bits takes b axons of its source, each of another type, and one more where a layer has both signs.
    There are no more types than the chip has, and no more axons than a core has."""
    limit, unknown = limit_of("NC209", case.profile.core.axon_types, "types of axon")
    yield from unknown
    if limit is None:
        return
    axons = case.profile.core.axons_in
    for layer in case.placement.layers:
        each = [axons_per_source(i.connection, i.form.bits) for i in layer.incoming]
        if max(each, default=0) > limit:
            yield Violation("NC209", layer.title, "types of axon", max(each), limit, "types")
        most = sum((i.fan.load(layer.cut, i.form).axons * n for i, n in zip(layer.incoming, each, strict=True)),
                   np.zeros(1, dtype=np.int64)).max()
        if axons is not None and axons.value is not None and most > axons.value >= int(layer.axons_in.max(initial=0)):
            yield Violation("NC209", layer.title, "axons of all types into a core", int(most), axons.value, "axons")


@rule("NC210", "core.destinations", "bits", sends=True)
def destinations(case: Case) -> Iterator[Finding]:
    """A neuron sends to no more axons than the chip lets it: one for each core that listens and each type it needs.

    Fix: Or repeat the neurons of this layer in the network (splitters), which is not done for you.
    """
    limit, unknown = limit_of("NC210", case.profile.core.destinations, "axons that one neuron sends to")
    yield from unknown
    if limit is None:
        return
    typed = case.profile.core.axon_types is not None
    sent: dict[str, np.ndarray] = {}
    for layer in case.placement.layers:
        for i in layer.incoming:
            if i.connection.source != case.network.input:
                each = axons_per_source(i.connection, i.form.bits) if typed else 1
                sent[i.connection.source] = sent.get(i.connection.source, 0) + each * i.fan.reach(layer.cut)
    for name, counts in sent.items():
        if counts.max(initial=0) > limit:
            yield Violation("NC210", name, "axons that one neuron sends to", int(counts.max()), limit, "axons",
                            "Repeat the neurons of this layer for each of them (splitters, which are not made here)")


