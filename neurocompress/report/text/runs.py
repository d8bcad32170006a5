"""Simulations and comparisons for people and for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...network.titles import titled
from ...shown import times
from ...verification.verify import VAN_ROSSUM_TAU
from .figures import change, count, percent, rate, share
from .tables import console, membranes, notes, table

if TYPE_CHECKING:
    from ...verification.results import Comparison, Simulation

#: Classes of this many samples are printed; all of them are in the JSON.
SHOWN = 20


def simulation_data(found: Simulation, out: Path | None) -> dict[str, Any]:
    """What a run gave, for JSON. firing_rates: spikes per neuron and step of the output and recorded nodes that send
    spikes; potentials: root of the mean square, least and largest value of the others."""
    return {
        "engine": found.engine, "samples": found.samples, "steps": found.steps, "accuracy": found.accuracy,
        "classes": found.classes, "firing_rates": found.rates,
        "potentials": {name: vars(values) for name, values in found.potentials.items()}, "read_by": found.read_by,
        "overflow": {name: dict(vars(o)) for name, o in found.overflow.items()},
        "lava_mismatches": found.mismatches, "seconds_per_step": found.seconds_per_step,
        "notes": found.notes, "out": out,
    }


def simulation(found: Simulation, out: Path | None) -> None:
    """What a run gave, for people."""
    to = console()
    samples, steps = found.samples, found.steps
    to.print(f"{found.engine}: {samples} samples of {steps} steps, "
             + ("no labels, so no accuracy" if found.accuracy is None else f"accuracy {percent(found.accuracy)}"),
             style="bold")
    to.print(f"the class is read from the {found.read_by}")
    more = f" and {samples - SHOWN} more" if samples > SHOWN else ""
    to.print(f"classes: {' '.join(map(str, found.classes[:SHOWN]))}{more}")
    to.print()
    lava = found.mismatches
    differs = ["Lava differs from the emulator"] if lava is not None else []

    def row(name: str, *cells: str) -> list[str]:
        more = [] if lava is None else [count(lava[name])]
        return [titled(found.titles, name), times(found.arrays[name].shape[2:]), *cells, *more]

    spiking = [row(name, rate(value)) for name, value in found.rates.items()]
    if spiking:
        table(to, "Output and recorded nodes",
              ["node", "shape", "spikes per neuron and step", *differs], spiking, left=2)
    silent = [row(name, *(f"{n:.4g}" for n in (p.rms, p.least, p.largest))) for name, p in found.potentials.items()]
    if silent:
        table(to, "Values that are no spikes (in the model's units)",
              ["node", "shape", "root mean square", "least", "largest", *differs], silent, left=2)
    if found.mismatches is not None:
        wrong = sum(found.mismatches.values())
        to.print("Lava and the emulator agree on every value" if not wrong
                 else f"LAVA AND THE EMULATOR DIFFER in {count(wrong)} values: please report this",
                 style="bold green" if not wrong else "bold red")
    if found.seconds_per_step is not None:
        to.print(f"Lava took {1e3 * found.seconds_per_step:.3g} ms per time step")
    lost = {name: o for name, o in found.overflow.items() if o.u_wrapped or o.v_clipped}
    notes(to, "Registers met their end", (
        f"{titled(found.titles, name)}: current wrapped {count(o.u_wrapped)} times, potential clipped "
        f"{count(o.v_clipped)} times" for name, o in lost.items()), style="bold red")
    notes(to, "Assumed", (titled(found.titles, said) for said in found.notes))
    if out is not None:
        to.print(f"Written: {out}", style="bold")


def comparison_data(found: Comparison) -> dict[str, Any]:
    """What two networks have in common, for JSON; units as in `Change`."""
    return {
        "a": found.a, "b": found.b, "samples": found.samples,
        "accuracy": None if found.accuracy is None else dict(zip("ab", found.accuracy, strict=True)),
        "agreement": found.agreement, "van_rossum_tau_steps": VAN_ROSSUM_TAU,
        "populations": [{
            "population": c.population, "rate": {"a": c.rate_before, "b": c.rate_after},
            "dead": {"a": c.dead_before, "b": c.dead_after}, "van_rossum": c.van_rossum,
            "earth_movers": c.earth_movers, "mismatches": c.mismatches,
            "membrane": c.membrane and vars(c.membrane)} for c in found.populations],
        "notes": found.notes,
    }


def comparison(found: Comparison) -> None:
    """What two networks have in common, for people."""
    to = console()
    accuracy = found.accuracy or (None, None)
    table(to, f"{found.samples} samples, {percent(found.agreement)} of them given the same class",
          ("", "network", "accuracy"), [("A", found.a, percent(accuracy[0])), ("B", found.b, percent(accuracy[1]))],
          left=2)
    if found.accuracy is None:
        to.print("No accuracy: the data holds no labels.", style="yellow")
    run = found.runs[0]
    places = {c.population: run.activities[c.population].events.size * found.samples * next(
        iter(run.activities.values())).steps for c in found.populations}
    table(to, f"Populations that both have, A → B (Van Rossum: mean per neuron, tau {VAN_ROSSUM_TAU:g} steps)", (
        "population", "spikes per neuron\nand step", "never spiked", "spikes that differ", "Van Rossum\ndistance",
        "earth mover's\ndistance of rates"),
          [(titled(found.titles, c.population), change(rate(c.rate_before), rate(c.rate_after)),
            change(count(c.dead_before), count(c.dead_after)),
            f"{count(c.mismatches)} ({share((c.mismatches or 0) / max(1, places[c.population]))})",
            f"{c.van_rossum:.3g}", f"{c.earth_movers:.3g}") for c in found.populations if c.membrane is None])
    membranes(to, "Membranes, A → B", {
        titled(found.titles, c.population): c.membrane for c in found.populations if c.membrane is not None})
    notes(to, "Assumed", (titled(found.titles, said) for said in found.notes))
