"""Profiles: installed YAML files by name, or a user's own by path; every error with file, line and key."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import Problem, Refused, refuse
from . import schema
from .memory import FORMULAS
from .schema import Profile, describe, entries

__all__ = ["Profile", "describe", "load_profile", "profile_names", "profile_text"]

SIZE_LIMIT = 256 * 1024  # bytes; a profile is about 10 KiB
DEPTH_LIMIT = 20
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is installed

#: Every key of the schema, to name the one that was meant.
_KNOWN_KEYS = sorted({
    field.alias or name for part in vars(schema).values()
    if isinstance(part, type) and issubclass(part, schema.Part) for name, field in part.model_fields.items()
})


def profile_names() -> tuple[str, ...]:
    """Names of the installed profiles, sorted."""
    files = resources.files("neurocompress.profiles").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def profile_text(name_or_path: str | Path) -> str:
    """The YAML text of an installed profile (by name) or of a file (by path). Raises `Refused`."""
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name:
        path = Path(name_or_path)
        try:
            if path.stat().st_size > SIZE_LIMIT:
                raise refuse(f"it has more than {SIZE_LIMIT} bytes", file=name, fix="A profile is one small YAML file")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise refuse(f"cannot be read ({error.strerror or error})", file=name,
                         fix="Check the path of the profile") from None
        except UnicodeDecodeError:
            raise refuse("is not text", file=name, fix="A profile is a YAML file in UTF-8") from None
        except ValueError as error:  # a NUL byte in the path
            raise refuse(f"cannot be read ({error})", file=ascii(name), fix="Check the path of the profile") from None
    known = profile_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise refuse(f"unknown target '{name}'", fix=(f"Did you mean '{close[0]}'? " if close else "")
                     + f"Known targets: {', '.join(known)}; or give the path of a profile (.yaml)")
    return (resources.files("neurocompress.profiles") / f"{name}.yaml").read_text(encoding="utf-8")


def load_profile(name_or_path: str | Path) -> Profile:
    """A chip by its name ("loihi2") or from a YAML file of one's own (a path, or a name that ends in .yaml).

    Raises `Refused` with file, line and key of every error.
    """
    text = profile_text(name_or_path)
    file = str(name_or_path) if str(name_or_path).endswith((".yaml", ".yml")) else f"{name_or_path}.yaml"
    try:
        problems = _events(text, file)  # before anything recursive reads it
        if problems:
            raise Refused(problems)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            problems = [] if root is None else _keys(root, file)
            data = None if root is None or problems else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise refuse(f"not valid YAML: {error.problem or error.context}", file=file,
                     where=f"line {mark.line + 1}" if mark else "", fix="Correct the syntax there") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"not valid YAML: {first}", file=file, fix="Correct the file") from None
    if problems:
        raise Refused(problems)
    if not isinstance(data, dict):
        raise refuse("holds no profile", file=file, fix="Start from an installed profile; see `neurocompress targets`")
    try:
        found = Profile.model_validate(data)
    except ValidationError as error:
        raise Refused(_problem(e, root, file) for e in error.errors(include_url=False)) from None
    problems = _references(found, root, file)
    if problems:
        raise Refused(problems)
    return found


def _events(text: str, file: str) -> list[Problem]:
    """What YAML allows and a profile does not: aliases (they can grow without end) and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        where = f"line {mark.line + 1}" if mark else ""
        if isinstance(event, yaml.AliasEvent):
            return [Problem("an alias (*name) is used", where, "Write the value out", file)]
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            return [Problem("it is nested too deeply", where, "Start from an installed profile", file)]
    return []


def _keys(root: Any, file: str) -> list[Problem]:
    """Keys that appear twice (YAML would keep the last) or are no names."""
    problems: list[Problem] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.SequenceNode):
            stack += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                where = f"line {key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode):
                    problems.append(Problem("a key is not text", where, "Use a plain name as the key", file))
                elif key.value in seen:
                    problems.append(Problem(f"key '{key.value}' appears twice", where, "Remove one of them", file))
                else:
                    seen.add(key.value)
                stack.append(value)
    return problems


def _line(root: Any, loc: tuple[Any, ...]) -> tuple[int, tuple[str, ...]]:
    """Line (from 1) and the keys of the deepest YAML node that a pydantic location names."""
    node, line, keys = root, root.start_mark.line + 1, []
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue  # a name of pydantic's own ("int"), or a key that is missing
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            continue
        keys.append(str(part))
    return line, tuple(keys)


def _problem(error: Any, root: Any, file: str) -> Problem:
    loc = error["loc"]
    line, keys = _line(root, loc)
    kind, got = error["type"], error.get("input")
    key = ".".join(keys)
    if kind == "missing":
        key = ".".join([*keys, str(loc[-1])])
        what, fix = f"key '{loc[-1]}' is missing", "Add it; a number that is not public is null, confidence unknown"
    elif kind == "extra_forbidden":
        close = difflib.get_close_matches(str(loc[-1]), _KNOWN_KEYS, 1)
        what = f"key '{loc[-1]}' is not known here"
        fix = f"Did you mean '{close[0]}'?" if close else "Remove it"
    else:
        shown = ascii(got) if isinstance(got, (str, int, float, bool, list, type(None))) else type(got).__name__
        message = error["msg"].removeprefix("Value error, ")
        what, fix = f"{message[:1].lower()}{message[1:]}, got {shown[:80]}", "Correct the value"
        if kind == "value_error":
            what, fix = message, "Give the value, or null with confidence unknown"
    return Problem(what, f"line {line}, key '{key}'", fix, file)


def _references(profile: Profile, root: Any, file: str) -> list[Problem]:
    """Names in a profile that must name something: "@key" sources, the memory formula, the default bits."""
    problems: list[Problem] = []

    def add(what: str, fix: str, *loc: str) -> None:
        line, keys = _line(root, loc)
        problems.append(Problem(what, f"line {line}, key '{'.'.join(keys)}'", fix, file))

    for path, entry in entries(profile):
        for key in re.findall(r"@([a-z][a-z0-9-]*)", entry.source):
            if key not in profile.sources:
                add(f"source '@{key}' is not in sources", "Add it there, or write the source out",
                    *path.split("."), "source")
    formula = profile.memory.formula.value
    if formula is not None and formula not in FORMULAS:
        add(f"memory formula '{formula}' is not known", f"Known: {', '.join(FORMULAS)}", "memory", "formula", "value")
    allowed, default = profile.weights.bits.value, profile.weights.default_bits.value
    if allowed is not None and default is not None and default not in allowed:
        add(f"default_bits {default} is not among weights.bits", f"Use one of {', '.join(map(str, allowed))}",
            "weights", "default_bits", "value")
    return problems

