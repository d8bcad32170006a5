"""The command line: arguments -> a verb -> a table, or one JSON object on stdout.

Exit status: 0 done / fits, 1 does not fit or a gate failed, 2 bad usage or bad input, 3 a bug of ours, 130 stopped;
for an stdout that can not be written see streams.py.
torch and rich are imported only where a verb needs them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from . import stopping, streams
from .by_layer import of_flags
from .errors import Problem, Refused, Unfit
from .examples import epilog
from .serialize import one_line, printable, to_json
from .version import __version__

if TYPE_CHECKING:
    from .chip.profile.schema import FanInPolicy
    from .network.encoder import InputMode
    from .network.readout import Mode

#: Version of what --json prints; it grows by keys, and a changed meaning gets a new number.
SCHEMA = "neurocompress/1"
DONE, FAILED, BAD_INPUT, BUG, STOPPED = 0, 1, 2, 3, stopping.STOPPED
CLOSED = Refused(Problem("it is closed", where="stdout", fix="Lead it to a file, or to /dev/null"))


class _Verbs(click.Group):
    """Every verb shows its examples under its help."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.epilog = epilog(name or cmd.name or "")
        super().add_command(cmd, name)


@click.group(cls=_Verbs, epilog=epilog(""),
             context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neurocompress")
def cli() -> None:
    """From a trained spiking network to a neuromorphic chip: compress, check the fit, emulate, emit."""


def option(*names: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(*names, **more)


def for_chip(verb: Callable[..., int]) -> Any:
    """--target NAME or --profile FILE: the verb gets the one that is given as `target`."""

    @option("--target", metavar="NAME", help="Chip; `neurocompress targets` lists them.")
    @option("--profile", metavar="FILE.yaml", help="Chip of your own, instead of --target.")
    @functools.wraps(verb)
    def chosen(*arguments: Any, target: str | None, profile: str | None, **more: Any) -> int:
        if (target is None) == (profile is None):
            raise Refused(Problem("both --target and --profile are given" if target else "no chip is given",
                                  fix="Give --target NAME (see `neurocompress targets`) or --profile FILE.yaml"))
        return verb(*arguments, target=target or Path(profile or ""), **more)

    return chosen


def reads_model(verb: Callable[..., int]) -> Any:
    """How a model is read: the verb gets --preset, --dt, --reset and --convention together, as `reading`."""

    @option("--preset", metavar="P", help="Platform whose reading of the file to take, e.g. snntorch, sinabs.")
    @option("--dt", type=float, metavar="X", help="Seconds per time step.")
    @option("--reset", type=click.Choice(["zero", "subtract"]), help="What a spike does to the membrane.")
    @option("--convention", multiple=True, metavar="NAME=VALUE",
            help="Any other convention, e.g. v_floor=false; `neurocompress presets NAME` lists them.")
    @functools.wraps(verb)
    def chosen(*arguments: Any, preset: str | None, dt: float | None, reset: str | None, convention: tuple[str, ...],
               **more: Any) -> int:
        reading = {"preset": preset, "dt": dt, "reset": reset, "convention": convention}
        return verb(*arguments, reading=reading, **more)

    return chosen


DATA = option("--data", type=click.Path(path_type=Path), metavar="FILE", help=".npz with `spikes` (and `labels`).")


def by_layer(flag: str, kind: type[Any], metavar: str, what: str) -> Callable[[Any], Any]:
    """A repeatable flag: a number for all layers, or LAYER=number for those whose names match a pattern."""
    return option(flag, multiple=True, metavar=f"{metavar}|LAYER={metavar}", callback=lambda _, __, texts: of_flags(
        flag, texts, kind), help=f"{what} Repeat it for layers by name, such as 'fc*=...'.")


BITS = by_layer("--bits", int, "N", "Stored bits per weight; the chip's default without it.")
SPARSITY = by_layer("--sparsity", float, "S", "Share of weights to set to zero, 0 to 1.")
CHIPS = option("--chips", type=int, metavar="N", help="Chips of the board; the profile's number without it.")
FAN_IN_POLICY = option("--fan-in-policy", type=click.Choice(["refuse", "prune", "split", "join"]),
                       help="What becomes of neurons with too many synapses; the profile's without it.")
DISTILL = option("--distill", type=int, metavar="EPOCHS",
                 help="Epochs in which what was pruned learns the original's outputs, without labels; 0 for none. "
                      "By default only where one shot changed classes.")
INPUT = option("--input", type=click.Choice(["auto", "spikes", "graded", "host"]), default="auto", show_default=True,
               help="How values reach the chip: as spikes, as whole numbers of graded spikes, or as the spikes of a "
                    "first layer that the host computes.")
STEPS = option("--steps", type=int, metavar="T", help="Repeat data of one time step (static pictures) T times.")
READOUT = option("--readout", type=click.Choice(["auto", "spikes", "membrane", "host"]), default="auto",
                 help="Where the class is read: what the network has (auto), spikes, a membrane, or layers that the "
                      "host computes.")
JSON = option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there.")
MODEL = click.argument("model", type=click.Path(path_type=Path))


@cli.command()
@MODEL
@for_chip
@DATA
@option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the bundle [default: MODEL-TARGET].")
@option("--method", default=None, metavar="M", help="sbc, sbc-paper, exact-obs, gptq, magnitude or rtn [default: sbc].")
@BITS
@SPARSITY
@option("--fit", is_flag=True, help="Find the mildest compression that fits.")
@option("--max-drop", type=float, metavar="P", help="Find the smallest network within P points of float accuracy.")
@CHIPS
@FAN_IN_POLICY
@DISTILL
@INPUT
@STEPS
@reads_model
@READOUT
@option("--seed", type=int, default=0, metavar="N", help="Seed of everything drawn.", show_default=True)
@option("--force", is_flag=True, help="Replace whatever is at --out, and name what that removed.")
@JSON
def deploy(model: Path, target: str | Path, data: Path | None, out: Path | None, method: str | None,
           sparsity: float | dict[str, float] | None, reading: dict[str, Any], as_json: bool, **more: Any) -> int:
    """Compress MODEL for a chip, check the fit, emit it, and report what it costs and loses."""
    from .report.text.terminal_progress import progress

    folder = out or Path(f"{model.stem}-{Path(target).stem}")
    with progress(as_json, "starting") as told:
        from .report.text import tables
        from .verbs.deploy import deploy as run  # torch comes with it, which takes seconds where it was not read lately

        made = run(model, target, data=data, out=folder, method=method or "sbc", sparsity=sparsity or 0.0,
                   progress=told, **reading, **more)
    warn(made.report.assumptions)
    if as_json:
        found = made.report.to_dict()
        emit("deploy", {"report_schema": found.pop("schema"), "bundle": folder, "passed": made.passed,
                        "removed": made.removed, **found})
    else:
        tables.deployment(made.report, folder)
        if made.removed:
            click.echo(printable(f"--force removed from {folder}: {', '.join(made.removed)}"))
    return DONE if made.passed else FAILED


@cli.command()
@MODEL
@option("--data", type=click.Path(path_type=Path), metavar="FILE", help="Calibration: .npz with `spikes`.")
@option("--recipe", type=click.Path(path_type=Path), metavar="R", help="YAML file; the flags below replace its keys.")
@option("--method", metavar="M", help="sbc, sbc-paper, exact-obs, gptq, magnitude or rtn [default: sbc].")
@by_layer("--bits", int, "N", "Bits per weight; floating point without it.")
@SPARSITY
@option("--allocation", metavar="A", help="How layers share the sparsity: lamp, temporal-lamp, loss or uniform.")
@option("--budget", metavar="SIZE", help="Bytes for all weights, e.g. 120KiB, instead of bits and sparsity.")
@option("--fan-in", type=int, metavar="K", help="At most K inputs of each neuron.")
@option("--samples", type=int, metavar="N", help="Calibrate on N samples drawn from the data; all without it.")
@DISTILL
@option("--finetune", type=int, metavar="EPOCHS", help="Train after compression; zeros and grid are kept.")
@STEPS
@reads_model
@READOUT
@option("--seed", type=int, default=0, metavar="N", help="Seed of everything drawn.", show_default=True)
@option("--memory", metavar="SIZE", help="For Hessians, for the ordering and for signals, each: 8GiB [default: 2GiB].")
@option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.nir")
@JSON
def compress(model: Path, data: Path | None, recipe: Path | None, samples: int | None, finetune: int | None,
             steps: int | None, reading: dict[str, Any], readout: Mode, seed: int, memory: str | None,
             budget: str | None, out: Path, as_json: bool, **flags: Any) -> int:
    """Prune and quantize MODEL in one shot, for no chip in particular; a stopped run goes on where it was."""
    from .report.text.terminal_progress import progress

    with progress(as_json, "starting") as told:
        from .report.text.compressed import compressed_data, show
        from .verbs.compress import compress_file

        result, measured = compress_file(
            model, data, out, recipe=recipe, samples=samples, finetune=finetune, steps=steps, seed=seed, progress=told,
            readout=readout, memory=byte_count("--memory", memory),
            budget=byte_count("--budget", budget), **reading, **flags)
    warn(result.notes)
    if as_json:
        emit("compress", compressed_data(result, measured, out))
    else:
        show(result, measured, out)
    return DONE


def byte_count(name: str, text: str | None) -> int | None:
    """"120KiB", "8 GiB", "4096" -> bytes. Raises `Refused`."""
    if text is None:
        return None
    number = text.strip()
    for power, unit in enumerate(("", "KiB", "MiB", "GiB")):
        bare = number.removesuffix(unit).strip()
        if number.endswith(unit) and bare.replace(".", "", 1).isdecimal() and float(bare) > 0:
            return int(float(bare) * 1024**power)
    raise Refused(Problem(f"{name} is '{text}'", fix="Give bytes, or a number with KiB, MiB or GiB"))


@cli.command()
@MODEL
@for_chip
@BITS
@SPARSITY
@CHIPS
@FAN_IN_POLICY
@option("--fit", is_flag=True, help="Search the mildest compression that fits, by the weights alone.")
@INPUT
@reads_model
@READOUT
@JSON
def check(model: Path, target: str | Path, bits: int | dict[str, int] | None,
          sparsity: float | dict[str, float] | None, chips: int | None, fan_in_policy: FanInPolicy | None, fit: bool,
          input: InputMode, reading: dict[str, Any], readout: Mode, as_json: bool) -> int:
    """Whether MODEL fits a chip: every limit it violates, with the cheapest fix. Needs no data."""
    from .report.text.terminal_progress import progress
    from .verbs.check import check as run
    from .verbs.check import check_compressed

    searched = None
    if fit and sparsity is not None:
        raise Refused(Problem("--fit chooses the sparsity itself", fix="Give --fit or --sparsity, not both"))
    with progress(as_json) as told:
        if fit:
            found, searched = check_compressed(model, target, bits=bits, chips=chips, fan_in_policy=fan_in_policy,
                                               input=input, readout=readout, progress=told, **reading)
        else:
            found = run(model, target, bits=bits, sparsity=sparsity, chips=chips, fan_in_policy=fan_in_policy,
                        input=input, readout=readout, progress=told, **reading)
    warn(found.notes)
    if as_json:
        emit("check", found.to_dict() | ({"compression": searched.to_dict()} if searched else {}))
    else:
        from .report.text import tables

        tables.fit(found, searched)
    return DONE if found.fits else FAILED


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL_OR_BUNDLE")
@option("--data", type=click.Path(path_type=Path), required=True, metavar="FILE", help=".npz with `spikes`.")
@option("--engine", type=click.Choice(["float", "emulator", "lava"]), default="float", show_default=True)
@STEPS
@reads_model
@READOUT
@option("--record", multiple=True, metavar="NODE ...", help="Nodes to write besides the output.")
@option("--out", type=click.Path(path_type=Path), metavar="FILE.npz", help="Writes output and recorded nodes.")
@JSON
def simulate(model: Path, data: Path, engine: str, steps: int | None, reading: dict[str, Any], readout: Mode,
             record: tuple[str, ...], out: Path | None, as_json: bool) -> int:
    """Run a model, or a deployed bundle, over recorded spikes."""
    from .data.arrays import save_arrays
    from .files.places import arrays_with, free_file
    from .report.text.terminal_progress import progress

    if out is not None:
        free_file(out, "simulate", arrays_with("output"), (model, data))
    with progress(as_json, "starting") as told:
        from .report.text import runs
        from .verbs.simulate import simulate as run

        found = run(model, data, engine=engine, steps=steps, record=record, readout=readout, progress=told,
                    **reading)
        if out is not None:
            told("writing the spikes", 0, 0)
            save_arrays(out, found.arrays)
    warn(found.notes)
    if as_json:
        emit("simulate", runs.simulation_data(found, out))
    else:
        runs.simulation(found, out)
    return FAILED if found.mismatches and any(found.mismatches.values()) else DONE


@cli.command()
@MODEL
@reads_model
@JSON
def inspect(model: Path, reading: dict[str, Any], as_json: bool) -> int:
    """Nodes, shapes, parameters and neuron models of MODEL, and what was assumed and why."""
    from .report.inspect import inspect_network
    from .report.text.terminal_progress import progress
    from .verbs.load import load

    with progress(as_json, "reading the model"):
        found = inspect_network(load(model, **reading))
    warn(found["notes"])
    if as_json:
        emit("inspect", found)
    else:
        from .report.text import tables

        tables.inspection(found, model)
    return DONE


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@option("--data", type=click.Path(path_type=Path), required=True, metavar="FILE", help=".npz with `spikes`.")
@STEPS
@reads_model
@READOUT
@JSON
def compare(a: Path, b: Path, data: Path, steps: int | None, reading: dict[str, Any], readout: Mode,
            as_json: bool) -> int:
    """Two models or bundles on the same data: accuracy, distances per layer, rates, dead neurons."""
    from .report.text.terminal_progress import progress

    with progress(as_json, "starting") as told:
        from .report.text import runs
        from .verbs.compare import compare as run

        found = run(a, b, data, steps=steps, readout=readout, progress=told, **reading)
    warn(found.notes)
    if as_json:
        emit("compare", runs.comparison_data(found))
    else:
        runs.comparison(found)
    return DONE


@cli.command()
@click.argument("name", required=False)
@JSON
def targets(name: str | None, as_json: bool) -> int:
    """The chips, or one chip's limits with their sources."""
    from .chip.profile.load import describe, load_profile, profile_names
    from .report.text import chips

    if name is None:
        found = [load_profile(n) for n in profile_names()]
        if as_json:
            emit("targets", {"targets": chips.target_rows(found)})
        else:
            chips.target_list(found)
        return DONE
    profile = load_profile(name)
    if as_json:
        emit("targets", {"name": profile.name, "title": profile.title, "extends": profile.extends,
                         "limits": describe(profile)})
    else:
        chips.target(profile)
    return DONE


@cli.command()
@click.argument("name", required=False)
@JSON
def presets(name: str | None, as_json: bool) -> int:
    """How platforms read a NIR file, or all that one preset assumes, with its evidence and the flags."""
    from .network.presets import rows

    found = rows(name)
    if as_json:
        emit("presets", {"presets": found})
        return DONE
    from .report.text import presets as shown

    if name is None:
        shown.preset_list()
    else:
        shown.preset(name)
    return DONE


@cli.command()
@click.argument("code", required=False)
@JSON
def rules(code: str | None, as_json: bool) -> int:
    """What `check` holds a network against: every rule, or the one with this CODE."""
    from .fit.rules.all_rules import explain

    rows = explain(code)
    if as_json:
        emit("rules", {"rules": rows})
    else:
        from .report.text import chips

        chips.rules(rows)
    return DONE


@cli.command()
@click.argument("source", type=click.Path(path_type=Path))
@option("--dt", type=float, required=True, metavar="X", help="Seconds per time step.")
@option("--steps", type=int, required=True, metavar="N", help="Time steps per recording.")
@option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.npz")
@option("--shape", default="2,34,34", metavar="C,H,W", show_default=True, help="Channels, height, width of the sensor.")
@option("--limit", type=int, metavar="N", help="Only the first N recordings.")
@option("--binary", is_flag=True, help="At most one spike per pixel and step.")
@JSON
def events(source: Path, dt: float, steps: int, out: Path, shape: str, limit: int | None, binary: bool,
           as_json: bool) -> int:
    """Turn event recordings (.bin, .bs2, .npz, a folder of them) into spikes of FILE.npz."""
    from .data.frames import events_to_spikes
    from .files.places import arrays_with, free_file
    from .report.text.terminal_progress import progress

    free_file(out, "events", arrays_with("spikes"), (source,))
    sizes = tuple(int(part) for part in shape.split(",")) if shape.replace(",", "").isdigit() else ()
    if len(sizes) != 3:
        raise Refused(Problem(f"--shape is '{shape}'", fix="Give three numbers: channels,height,width"))
    with progress(as_json) as told:
        found = events_to_spikes(source, dt, steps, sizes, limit, binary,
                                 progress=lambda done, total: told("reading recordings", done, total))
        told("writing the spikes", 0, 0)
        found.save(out)
    facts = {"out": str(out), "samples": found.samples, "steps": found.steps, "input_shape": list(found.input_shape),
             "labels": found.labels is not None, "source": found.name}
    if as_json:
        emit("events", facts)
    else:
        click.echo(one_line(f"{out}: {found.samples} samples of {found.steps} steps, {found.name}"))
    return DONE


def warn(notes: Iterable[str]) -> None:
    """Says aloud, on stderr, what could only be assumed although the result depends on it."""
    from .network.assumed import aloud

    for note in aloud(tuple(notes)):
        click.secho(f"warning: {printable(note)}", fg="yellow", bold=True, err=True)


def emit(verb: str, data: dict[str, Any]) -> None:
    """One versioned JSON object on stdout."""
    click.echo(to_json({"schema": SCHEMA, "verb": verb, **data}))


def spread_record(arguments: list[str]) -> list[str]:
    """`simulate --record A B C` as `--record=A --record=B --record=C`, which is what click understands.

    A model that follows the names is one of them until the end shows that no other is there: then the last name of
    the last `--record` with more than one is the model. Raises `Refused` for a `--record` without a name.
    """
    if next((a for a in arguments if not a.startswith("-")), "") != "simulate":
        return arguments
    takes_value = {name for p in simulate.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
    rest: list[str] = []
    groups: list[list[str]] = []
    positional = -1  # the verb itself is none
    waiting, naming = False, False
    for place, argument in enumerate(arguments):
        if waiting:  # the value of an option, whatever it looks like
            waiting = False
        elif argument == "--":
            rest += arguments[place:]
            positional += len(arguments) - place - 1
            break
        elif argument == "--record":
            naming = True
            groups.append([])
            continue
        elif argument.startswith("-") and argument != "-":
            naming, waiting = False, argument in takes_value
        elif naming:
            groups[-1].append(argument)
            continue
        else:
            positional += 1
        rest.append(argument)
    if not all(groups):
        raise Refused(Problem("--record names no node", fix="Name nodes; `neurocompress inspect` lists them"))
    several = [names for names in groups if len(names) > 1]
    model = [several[-1].pop()] if several and positional == 0 else []
    verb = rest.index("simulate") + 1
    return [*rest[:verb], *(f"--record={name}" for names in groups for name in names), *model, *rest[verb:]]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: maps what happened to an exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    closed = False
    if arguments is None:  # a process of its own
        closed = streams.open_closed()
        stopping.obey()
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):  # a terminal that lacks a sign shows '?', not a traceback
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    held, said = streams.Held(out), streams.Heedless(err)
    with contextlib.redirect_stdout(held), contextlib.redirect_stderr(said):
        try:
            status = _refused(CLOSED, False) if closed else _run(given, "--json" in given)
            status = _printed(out, held.getvalue(), status)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            status = STOPPED
    try:
        err.flush()
    except (OSError, ValueError):
        streams.hush(err)
    sys.exit(status)


def _printed(out: TextIO, text: str, status: int) -> int:
    """Prints what a verb held back. Returns its status, or another one where a verdict could not be printed."""
    try:
        out.write(text)
        out.flush()
        return status
    except BrokenPipeError:
        streams.hush(out)
        return streams.READER_LEFT if status == FAILED else status
    except OSError as error:
        streams.hush(out)
        problem = Problem(f"it can not be printed to ({error.strerror})", where="stdout",
                          fix="Lead it to a disk with space; files that the command writes are in place")
        return _refused(Refused(problem), False) if status in (DONE, FAILED) else status


def _run(given: list[str], as_json: bool) -> int:
    """Runs a verb. Returns the exit status of what happened."""
    try:
        status = cli(args=spread_record(given), prog_name="neurocompress", standalone_mode=False)
        return status if isinstance(status, int) else DONE
    except Refused as error:
        status = _refused(error, as_json)
        return FAILED if isinstance(error, Unfit) else status
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _refused(Refused(Problem(error.format_message(), fix="See `neurocompress --help`")), as_json)
    except click.Abort:
        raise KeyboardInterrupt from None
    except MemoryError:
        return _refused(Refused(Problem("not enough memory", fix="Give fewer samples or a smaller network")), as_json)
    except OSError as error:
        problem = Problem(error.strerror or str(error), file=str(error.filename or ""),
                          fix="Check the path, its permissions and the space that is left")
        return _refused(Refused(problem), as_json)
    except Exception as error:
        if stopping.asked():  # Ctrl-C within an import or a library's callback comes out as something else
            raise KeyboardInterrupt from None
        import traceback

        if as_json:
            emit("error", {"status": BUG, "bug": one_line(f"{type(error).__name__}: {error}")})
        click.echo(printable("".join(traceback.format_exception(error))), err=True)
        click.echo("This is a bug of neurocompress: please report the lines above and the command.", err=True)
        return BUG


def _refused(error: Refused, as_json: bool) -> int:
    for problem in error.problems:
        click.echo(f"error: {one_line(str(problem))}", err=True)
    if as_json:
        emit("error", {"status": BAD_INPUT, "problems": [vars(p) for p in error.problems]})
    return BAD_INPUT


if __name__ == "__main__":
    main()
