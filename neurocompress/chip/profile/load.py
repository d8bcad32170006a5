"""Profiles: installed YAML files by name, or a user's own by path; every error with file, line and key."""

from __future__ import annotations

import difflib
import os
import re
from importlib import resources
from pathlib import Path

import yaml

from ...errors import Problem, Refused, refuse
from ...files.yaml_file import Part, overlaid, place_of, read_text, tree, validated
from . import schema
from .memory_formulas import FORMULAS
from .schema import Profile, describe, entries

__all__ = ["Profile", "describe", "load_profile", "profile_names", "profile_text"]

#: Every key of the schema, to name the one that was meant.
_KNOWN_KEYS = sorted({
    field.alias or name for part in vars(schema).values()
    if isinstance(part, type) and issubclass(part, Part) for name, field in part.model_fields.items()
})


def profile_names() -> tuple[str, ...]:
    """Names of the installed profiles, sorted."""
    files = resources.files("neurocompress.profiles").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def profile_text(name_or_path: str | Path) -> str:
    """A profile as one YAML text that stands alone: the file itself, or, of one that extends another, both as one.

    Raises `Refused`.
    """
    root = _tree(name_or_path, ())
    own = [(key, value) for key, value in root.value if key.value != "extends"]
    if len(own) == len(root.value):
        return _text(name_or_path)
    root.value = own
    return str(yaml.serialize(root, allow_unicode=True, width=120))


def _text(name_or_path: str | Path) -> str:
    """The text of the file of an installed profile (by name) or of a user's (by path). Raises `Refused`."""
    name = str(name_or_path)
    if _is_file(name_or_path):
        return read_text(name, "profile")
    known = profile_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise refuse(f"unknown target '{name}'", fix=(f"Did you mean '{close[0]}'? " if close else "")
                     + f"Known targets: {', '.join(known)}; or give the path of a profile (.yaml)")
    return (resources.files("neurocompress.profiles") / f"{name}.yaml").read_text(encoding="utf-8")


def _is_file(name_or_path: str | Path) -> bool:
    name = str(name_or_path)
    return isinstance(name_or_path, Path) or name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name


def load_profile(name_or_path: str | Path) -> Profile:
    """A chip by its name ("loihi2") or from a YAML file of one's own (a path, or a name that ends in .yaml).

    Raises `Refused` with file, line and key of every error.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise refuse(f"the target is of type {type(name_or_path).__name__}",
                     fix="Give a chip's name (see `neurocompress targets`) or the path of a profile")
    root = _tree(name_or_path, ())
    found = validated(root, Profile, _KNOWN_KEYS)
    problems = _references(found, root)
    if problems:
        raise Refused(problems)
    return found


def _tree(name_or_path: str | Path, extended_by: tuple[str, ...]) -> yaml.MappingNode:
    """The YAML nodes of a profile, laid over those of the one that it extends."""
    text = _text(name_or_path)
    file = str(name_or_path) if _is_file(name_or_path) else f"{name_or_path}.yaml"
    root = tree(text, file, "profile", "Start from an installed profile; see `neurocompress targets`")
    for key, value in root.value:
        if key.value == "extends":
            base = value.value if isinstance(value, yaml.ScalarNode) else ""
            where = f"line {value.start_mark.line + 1}, key 'extends'"
            if base.endswith((".yaml", ".yml")):
                base = str(Path(name_or_path).parent / base)
            elif base not in profile_names():
                raise refuse(f"'{base}' is no installed profile", where=where, file=file, fix="Name one of "
                             f"{', '.join(profile_names())}, or a file beside this one (NAME.yaml)")
            if base in (*extended_by, str(name_or_path)):
                raise refuse(f"it extends itself: {' → '.join((*extended_by, str(name_or_path), base))}", where=where,
                             file=file, fix="Name another profile")
            return overlaid(_tree(base, (*extended_by, str(name_or_path))), root, whole="value")
    return root


def _references(profile: Profile, root: yaml.MappingNode) -> list[Problem]:
    """Names in a profile that must name something: "@key" sources, the memory formula, the default bits."""
    problems: list[Problem] = []

    def add(what: str, fix: str, *loc: str) -> None:
        file, line, keys = place_of(root, loc)
        problems.append(Problem(what, f"line {line}, key '{'.'.join(keys)}'", fix, file))

    for path, entry in entries(profile):
        for key in re.findall(r"@([a-z][a-z0-9-]*)", entry.source):
            if key not in profile.sources:
                add(f"source '@{key}' is not in sources", "Add it there, or write the source out",
                    *path.split("."), "source")
    formula = profile.memory.formula.value
    if formula is not None and formula not in FORMULAS:
        add(f"memory formula '{formula}' is not known", f"Known: {', '.join(FORMULAS)}", "memory", "formula", "value")
    cores = profile.topology.cores_per_chip.value
    for name in ("kernel_words", "neuron_words", "bias_words"):
        each = getattr(profile.core, name)
        if each is not None and each.value is not None and cores is not None and len(each.value) != cores:
            add(f"{name} has {len(each.value)} numbers, and a chip {cores} cores", "Give one number for each core",
                "core", name, "value")
    allowed, default = profile.weights.bits.value, profile.weights.default_bits.value
    if allowed is not None and default is not None and default not in allowed:
        add(f"default_bits {default} is not among weights.bits", f"Use one of {', '.join(map(str, allowed))}",
            "weights", "default_bits", "value")
    magnitude = profile.weights.magnitude_bits.value
    if allowed is not None and magnitude is not None and max(allowed) > magnitude:
        add(f"weights.bits holds {max(allowed)}, more than the {magnitude} of magnitude_bits",
            "magnitude_bits are those of the widest weight", "weights", "bits", "value")
    return problems

