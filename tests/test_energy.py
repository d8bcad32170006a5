"""An energy figure carries its source and conditions, and is none where no figure is public."""

from __future__ import annotations

import pytest

from neurocompress.report.energy import LABEL, NO_FIGURE, energy
from neurocompress.verification.operations import Operations

DAVIES = "Davies 2018 table 2: 0.75 V, pre-silicon, dynamic only"
WORK = Operations("total", ac=1000.0, mac=200.0, sops_unmasked=5000.0, sops_dense=9000.0)


def entry(value: float | None, unit: str = "pJ") -> dict[str, object]:
    return {"value": value, "unit": unit, "source": "table 2", "confidence": "quoted", "kind": "advice", "note": None}


def test_loihi_by_hand() -> None:
    found = energy({
        "conditions": DAVIES, "per_synaptic_operation": entry(23.6), "per_neuron_update_active": entry(81),
        "per_neuron_update_inactive": entry(52), "per_hop_east_west": entry(3.0),
    }, WORK, neuron_updates=100)
    assert found.low == pytest.approx(1200 * 23.6e-12 + 100 * 52e-12)
    assert found.high == pytest.approx(1200 * 23.6e-12 + 100 * 81e-12)
    assert "not a measurement" in found.label
    assert found.label == LABEL
    assert found.conditions == DAVIES
    assert found.missing == ()
    assert found.terms[0].figures == ("per_synaptic_operation: 23.6 pJ (table 2, quoted)",)
    assert len(found.terms[1].figures) == 2


def test_units_are_read() -> None:
    found = energy({"conditions": "28 nm", "per_synaptic_operation": entry(0.45, "nJ"),
                    "per_neuron_update_active": entry(2.19, "nJ")}, WORK, neuron_updates=100)
    assert found.low == found.high == pytest.approx(1200 * 450e-12 + 100 * 2190e-12)


@pytest.mark.parametrize("section", [
    {"conditions": "none", "per_synaptic_operation": entry(None), "per_neuron_update_active": entry(None)},
    {"conditions": "none", "per_synaptic_operation": entry(None), "per_neuron_update_active": None},
])
def test_without_a_public_figure_there_is_no_number(section: dict[str, object]) -> None:
    found = energy(section, WORK, neuron_updates=100)
    assert found.low is None
    assert found.high is None
    assert found.label == NO_FIGURE
    assert found.missing == ("synaptic operations", "neuron updates")
    assert found.terms[0].figures == ("per_synaptic_operation: no public figure",)


def test_a_figure_for_one_term_alone_gives_no_sum() -> None:
    found = energy({"conditions": "x", "per_synaptic_operation": entry(5.47)}, WORK, neuron_updates=100)
    assert found.low is None
    assert found.missing == ("neuron updates",)
    assert found.terms[0].low == pytest.approx(1200 * 5.47e-12)
