"""What people read: every result of a verb as tables on stdout. JSON is the other view of the same data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ...fit.check import Fit
from ...fit.compression_search import BOUND
from ...network.assumed import quiet
from ...network.titles import titles_of
from ...serialize import one_line, printable
from ...shown import times
from ..layout import layout
from .figures import amount, change, count, joules, percent, rate, share, size

if TYPE_CHECKING:
    from ...fit.compression_search import Found
    from ...verification.verify import Drift
    from ..energy import Energy
    from ..report import Report

#: Columns of a line where the terminal does not say (a pipe, a file).
WIDTH = 100
#: How the lines of a table look.
STYLES = {"head": "dim", "rule": "", "row": "", "gap": "", "total": "bold"}


class _Console(Console):
    """Writes nothing that a terminal would obey: text of files that came here unseen is written out, and a plain
    string stays one line."""

    def print(self, *objects: Any, **more: Any) -> None:
        super().print(*(one_line(item) if isinstance(item, str) else item for item in objects), **more)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text = printable(segment.text)
            yield segment if text == segment.text or segment.control else Segment(text, segment.style)


def console() -> Console:
    """A console for stdout as it is now."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return _Console(highlight=False, markup=False, emoji=False, width=WIDTH if piped else None)


def table(out: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1,
          total: Sequence[str] | None = None) -> None:
    """Prints a table, where it has rows; the first `left` columns hold text, the rest numbers; `total` is a last row of
    its own."""
    listed = [[one_line(cell) for cell in row] for row in rows]
    if not listed and total is None:
        return
    out.print(Text(title, style="bold"))
    for line in layout(out.width, columns, listed, left, total):
        out.print(Text(line.text, style=STYLES[line.kind]), no_wrap=True, overflow="ignore", crop=False)
    out.print()


def notes(out: Console, title: str, sentences: Iterable[str], style: str = "") -> None:
    """Prints sentences one below the other; nothing when there are none. What a verb says aloud on stderr is left out:
    it is said once."""
    listed = quiet(dict.fromkeys(sentences))
    if not listed:
        return
    out.print(Text(title, style="bold"))
    made = Table.grid(padding=(0, 1))
    for sentence in listed:
        loud = style or ("bold yellow" if sentence.startswith("CALIBRATED ON") else "")
        made.add_row(" -", Text(one_line(sentence), style=loud))
    out.print(made)
    out.print()


def deployment(report: Report, folder: Path) -> None:
    """What a deployment costs and loses, and where it lies."""
    out = console()
    _verdict(out, report.fit)
    of = titles_of(report.fit.plan.network)
    wrapped = [of(layer.population) for layer in report.layers if layer.u_wrapped]
    if wrapped:
        out.print(Text(one_line(f"GATE FAILED: registers wrapped in {', '.join(wrapped)}: the chip does not compute "
                                 "what the network means"), style="bold red"))
    out.print()
    _accuracy(out, report)
    sums = report.totals
    table(out, "What it takes", ("population", "weights", "neurons", "parameters", "bits", "zeros", "float32 → chip",
                                 "cores"),
          [(of(x.population), of(", ".join(x.layers)), count(x.neurons), count(x.parameters), str(x.bits),
            change(share(x.sparsity_before), share(x.sparsity)), f"{size(x.memory_float32)} → {size(x.memory)}",
            count(x.cores)) for x in report.layers], left=2,
          total=("total", "", count(sums["neurons"]), count(sums["parameters"]), "", "",
                 f"{size(sums['memory_float32'])} → {size(sums['memory'])}", count(sums["cores"])))
    places = report.samples * report.steps
    table(out, "What it does: float → on the chip", ("population", "spikes per neuron\nand step", "never spiked",
                                                     "spikes that differ", "Van Rossum\ndistance"),
          [(of(x.population), change(rate(x.rate_before), rate(x.rate)), change(count(x.dead_before), count(x.dead)),
            f"{count(x.mismatches)} ({share((x.mismatches or 0) / max(1, x.neurons * places))})", f"{x.van_rossum:.3g}")
           for x in report.layers if x.membrane is None])
    membranes(out, "What its membranes do: float → on the chip", {
        of(x.population): x.membrane for x in report.layers if x.membrane is not None})
    table(out, f"Operations per sample of {report.steps} steps", (
        "population", "effective SOPs\nfloat → chip", "zero weights\ncounted", "dense", "neuron updates"),
          [(of(x.population), change(count(x.sops_before.sops_effective), count(x.sops.sops_effective)),
            count(x.sops.sops_unmasked), count(x.sops.sops_dense), count(x.neuron_updates)) for x in report.layers],
          total=("total", change(count(sums["sops_effective_before"]), count(sums["sops_effective"])),
                 count(sums["sops_unmasked"]), count(sums["sops_dense"]), count(sums["neuron_updates"])))
    work = report.way.host
    if work is not None:
        notes(out, f"On the host, before the chip (not counted above): {', '.join(work.layers)}", (
            f"{count(work.neurons)} neurons, {count(work.parameters)} parameters, in floating point",
            f"{count(work.macs)} multiply-accumulates and {count(work.neuron_updates)} neuron updates a sample"))
    _energy(out, report.energy_before, report.energy)
    core_map(out, report.fit)
    notes(out, "Assumed, folded or lost", (of(said) for said in report.assumptions))
    _limits(out, report.fit)
    out.print(Text(one_line(f"Bundle: {folder}"), style="bold"))


def _accuracy(out: Console, report: Report) -> None:
    source = report.calibration
    how = (f"{report.samples} samples of {report.steps} steps; {source.samples} of them calibrated"
           if not source.synthetic else source.source)
    if source.synthetic:
        out.print(Text(f"NO DATA: calibrated on {source.source}. No accuracy is reported; give --data.",
                       style="bold yellow"))
    elif report.accuracy is None:
        out.print(Text("No accuracy: the data holds no labels.", style="yellow"))
    rows = []
    for name in ("float", *report.agreement):
        scores = [percent(found.get(name)) if found else "–" for found in (report.accuracy, report.held_out)]
        rows.append((name, *scores, percent(report.agreement.get(name)) if name != "float" else ""))
    table(out, f"Accuracy ({how})",
          ("network", "all samples", "held out", "same class as float"), rows)
    out.print(Text(printable(f"The class is read from the {report.readout.by}")))
    if (host := report.readout.host) is not None:
        done = "an unknown number of" if report.readout.operations is None else count(report.readout.operations)
        what = ", ".join(host.layers) or "the sum of several populations"
        out.print(Text(printable(
            f"The host computes {what}: {count(host.parameters)} parameters in floating point, {done} synaptic "
            "operations a sample, counted in no table below"), style="yellow"))
    out.print()
    v = report.virtual
    if v is not None:
        right = "" if v.accuracy_mean is None else (
            f"accuracy {percent(v.accuracy_mean)} in the mean, {percent(v.accuracy_worst)} on the worst, "
            f"{v.accuracy_deviation:.2f} points from chip to chip; ")
        notes(out, f"{v.chips} virtual chips with mismatch, {v.samples} samples", (
            f"{right}same class as float {percent(v.agreement_mean)}, at worst {percent(v.agreement_worst)}",))


def membranes(out: Console, title: str, drifts: Mapping[str, Drift]) -> None:
    """How far potentials moved, in the model's units; nothing where no population is read by its membrane."""
    if drifts:
        table(out, f"{title} (in the model's units)", ("population", "root mean square", "of the difference",
                                                       "of its own", "largest difference"),
              [(name, f"{d.rms_before:.4g}", f"{d.rms:.3g}",
                share(d.rms / d.rms_before) if d.rms_before else "–", f"{d.largest:.3g}")
               for name, d in drifts.items()])


def _energy(out: Console, before: Energy, after: Energy) -> None:
    lines = [f"conditions: {after.conditions}"]
    if after.low is None or after.high is None:
        lines.insert(0, f"{after.label} for {' and '.join(after.missing)}, so no energy is given")
    else:
        spread = [joules(e.low or 0.0) if e.low == e.high else f"{joules(e.low or 0.0)} to {joules(e.high or 0.0)}"
                  for e in (before, after)]
        lines.insert(0, f"{change(*spread)} ({after.label})")
    lines += [f"{count(t.count)} {t.what}; {'; '.join(t.figures)}" for t in after.terms if t.low is not None]
    notes(out, "Energy per sample", lines)


def fit(found: Fit, compression: Found | None = None) -> None:
    """Whether a network fits, layer by layer, and what to change when it does not."""
    out = console()
    _verdict(out, found)
    _compression(out, found, compression)
    if found.host or (found.read_by and not found.read_by.startswith("spike count")):
        host = f"; the host computes {', '.join(found.host)}" if found.host else ""
        out.print(Text(printable(f"the class is read from the {found.read_by}{host}")))
    out.print()
    sums, of = found.totals, titles_of(found.plan.network)
    table(out, "Layers",
          ("layer", "population", "neurons", "parameters", "synapses", "bits", "float32 → chip", "cores"),
          [(of(row.layer), of(row.population), count(row.neurons), count(row.parameters), count(row.synapses),
            str(row.bits), f"{size(row.memory_float32)} → {size(row.memory)}", count(row.cores)) for row in found.rows],
          left=2, total=("total", "", count(sums["neurons"]), count(sums["parameters"]), count(sums["synapses"]), "",
                 f"{size(sums['memory_float32'])} → {size(sums['memory'])}", count(sums["cores"])))
    shown = [name for name in USED if name in found.utilization]
    table(out, "Fullest piece of each layer", ("layer", *(USED[name] for name in shown), "synapses into\na neuron"),
          [(of(row.layer), *(share(row.utilization[name]) if name in row.utilization else "–" for name in shown),
            count(row.fan_in)) for row in found.rows])
    core_map(out, found)
    _limits(out, found)


#: How the resources of a core read.
USED = {"memory": "memory", "neurons": "neurons", "axons_in": "axons in", "axons_out": "axons out",
        "memory_per_axon": "longest list"}


def core_map(out: Console, found: Fit) -> None:
    """Which layer lies on which cores, and the spikes between cores."""
    rows, of = [], titles_of(found.plan.network)
    for place in found.map:
        cores = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in place.cores[:MAP_RANGES])
        more = f", {len(place.cores) - MAP_RANGES} more ranges" if len(place.cores) > MAP_RANGES else ""
        rows.append((of(place.layer), of(place.population), cores + more, ", ".join(map(str, place.chips[:MAP_RANGES]))
                     + (" ..." if len(place.chips) > MAP_RANGES else "")))
    table(out, "Core map", ("layer", "population", "cores", "chips"), rows, left=4)
    if found.board is not None and found.board.messages:
        b = found.board
        said = "if every neuron spiked in every step (assumed)" if b.assumed else "at the rates measured"
        chips = f", {share(b.across_chips / b.messages)} from chip to chip" if found.chips > 1 else ""
        out.print(Text(f"{share(b.across_cores / b.messages)} of all spikes go from core to core{chips}, {said}"))
        out.print()


#: Ranges of cores, and chips, that a line of the core map names.
MAP_RANGES = 6


def _compression(out: Console, found: Fit, compression: Found | None) -> None:
    if compression is None:
        return
    of = titles_of(found.plan.network)
    sparsest = ", ".join(f"{of(name)} {share(s)}" for name, s in compression.sparsity.items() if s > 0)
    pruned = "; ".join(f"at most {n} synapses to a neuron in {of(name)}" for name, n in compression.plan.fan_in.items())
    what = f"{compression.bits} bit" + (f"; zeros: {sparsest}" if sparsest else "") + (f"; {pruned}" if pruned else "")
    if compression.fits:
        out.print(Text(one_line(f"The mildest compression that fits: {what}"), style="bold"))
        out.print(Text(f"Estimated loss: {compression.loss:.3g} {compression.unit}"))
        if compression.loss:
            out.print(Text(one_line(f"Most of it: {compression.worst[1]:.3g} of {of(compression.worst[0])}; the search "
                                    f"stops at {BOUND:g}, where a layer loses as much as it keeps")))
        return
    if compression.beyond:
        out.print(Text("By the weights alone no compression within the bound makes it fit; deploy --fit decides, with "
                       "data", style="bold yellow"))
        out.print(Text(one_line(f"  {compression.said}")))
        if compression.chips[0]:
            out.print(Text(f"  It would fit {_chips(compression.chips[0])} as it is"))
        return
    out.print(Text("No compression makes it fit", style="bold red"))
    for wall in dict.fromkeys(f"{v.code} {of(v.layer)}: {v.resource}: needs {amount(v.needed, v.unit)}, has "
                              f"{amount(v.available, v.unit)}" for v in compression.walls):
        out.print(Text(one_line(f"  at {compression.bits} bit and the highest sparsity still {wall}")))
    ways = zip(compression.chips, ("as it is", "at that compression"), strict=True)
    if any(compression.chips):
        out.print(Text("  It would fit " + " and ".join(f"{_chips(n)} {how}" for n, how in ways if n)))
    else:
        out.print(Text("  No number of chips would do"))


def _chips(n: int) -> str:
    return f"{n} chip" + ("s" if n > 1 else "")


def _verdict(out: Console, found: Fit) -> None:
    style = {"fits": "bold green", "does not fit": "bold red"}.get(found.verdict, "bold yellow")
    available = f"{count(found.cores_available)} cores" if found.cores_available else "an unknown number of cores"
    least = f", at least {count(found.fewest_cores)} needed" if found.fewest_cores < found.cores else ""
    out.print(Text(one_line(f"{found.title}: {found.verdict.upper()}"), style=style)
              + Text(f"   {count(found.cores)} of {available} on {_chips(found.chips)}{least}", style=""))
    used = [f"{USED[name]} {share(found.utilization[name])}" for name in USED if name in found.utilization]
    if used:
        out.print(Text(f"fullest core: {', '.join(used)}"))


def _limits(out: Console, found: Fit) -> None:
    """Broken rules, worst first, each with what to do; then the limits that nobody published."""
    of = titles_of(found.plan.network)
    for v in found.violations:
        out.print(Text(one_line(f"{v.code} {of(v.layer)}: {v.resource}"), style="bold red"))
        facts = (f"needs {amount(v.needed, v.unit)}, has {amount(v.available, v.unit)}, {amount(v.excess, v.unit)} over"
                 if not v.unit.startswith("kinds of ") else "the chip has none of this kind")
        out.print(Padding(Text(facts), (0, 0, 0, 2), expand=False))
        if v.fix:
            out.print(Padding(Text(one_line(f"fix: {of(v.fix)}"), style="green"), (0, 0, 0, 2), expand=False))
    if found.violations:
        out.print()
    notes(out, "Decided by deploy", (of(f"{u.code} {u.layer}: {u.reason}") for u in found.undecided))
    notes(out, "Unchecked limits", (f"{u.code} {u.resource}: {u.reason}" for u in found.unchecked))
    notes(out, "Notes", (of(said) for said in found.notes))


def inspection(found: dict[str, Any], model: Path) -> None:
    """What `inspect_network` found."""
    out = console()
    out.print(Text(one_line(str(model)), style="bold") + Text(
        f"   {count(found['neurons'])} neurons, {count(found['parameters'])} parameters, "
        f"input {times(found['input_shape'])}, output {times(found['output_shape'])}"))
    out.print()
    table(out, "Nodes", ("node", "kind", "from", "shape", "values", "parameters"),
          [(n["name"], n["kind"], ", ".join(n["inputs"]), times(n["output_shape"]), _values(n["values"]),
            count(n["parameters"]) if n["parameters"] else "") for n in found["nodes"]], left=5)
    notes(out, "Feedback (arrives one step later)", (f"{a} → {b}" for a, b in found["feedback"]))
    notes(out, "Read as", found["notes"])


def _values(values: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        if isinstance(value, dict):
            parts.append(f"{name} {value['min']:.4g} to {value['max']:.4g}")
        elif isinstance(value, list):
            parts.append(f"{name} {times(value) if not value or not isinstance(value[0], list) else value}")
        elif isinstance(value, bool):
            parts.append(name if value else f"no {name}")
        else:
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)
