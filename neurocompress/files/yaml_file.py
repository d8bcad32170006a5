"""YAML files of users: safe, small, and every error with file, line and key."""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import NAMED, Problem, Refused, refuse

SIZE_LIMIT = 256 * 1024  # bytes; a profile is about 10 KiB
DEPTH_LIMIT = 20
#: Larger integers than this lose digits as floats and overflow in sums.
INTEGER_LIMIT = 2**53
#: What a value may be: YAML has dates, sets and more, which no key of these files takes.
_TYPES = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is installed


class Part(BaseModel):
    """A section of such a file: unknown keys, coerced types and NaN are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


M = TypeVar("M", bound=Part)


def read_text(path: str | Path, kind: str) -> str:
    """The text of a file of one `kind` ("profile", "recipe"). Raises `Refused`."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise refuse(f"it has more than {SIZE_LIMIT} bytes", file=str(path), fix=f"A {kind} is one small YAML file")
        return data.decode("utf-8")
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror or error})", file=str(path),
                     fix=f"Check the path of the {kind}") from None
    except UnicodeDecodeError:
        raise refuse("is not text", file=str(path), fix=f"A {kind} is a YAML file in UTF-8") from None
    except ValueError as error:  # a NUL byte in the path
        raise refuse(f"cannot be read ({error})", file=str(path), fix=f"Check the path of the {kind}") from None


class _Named(io.StringIO):
    """A text whose YAML marks bear the name of its file."""

    def __init__(self, text: str, name: str):
        super().__init__(text)
        self.name = name


def parse(text: str, file: str, model: type[M], kind: str, known: Sequence[str], example: str) -> M:
    """The text as a `model`.

    kind: what the file is ("profile"). known: every key there is, to name the one that was meant. example: where to
    start from. Raises `Refused`.
    """
    return validated(tree(text, file, kind, example), model, known)


def tree(text: str, file: str, kind: str, example: str) -> yaml.MappingNode:
    """The YAML nodes of a text that holds one mapping; see `parse`. Raises `Refused`."""
    with _refusing(file):
        problems = _events(text, file, example)  # before anything recursive reads it
        if problems:
            raise Refused(problems)
        loader = _Loader(_Named(text, file))
        try:
            root = loader.get_single_node()
            problems = [] if root is None else _nodes(root, file)
        finally:
            loader.dispose()
    if problems:
        raise Refused(problems)
    if not isinstance(root, yaml.MappingNode):
        raise refuse(f"holds no {kind}", file=file, fix=example)
    return root


def validated(root: yaml.MappingNode, model: type[M], known: Sequence[str]) -> M:
    """YAML nodes as a `model`; every error with the file, line and key of its node. Raises `Refused`."""
    loader = _Loader("")
    try:
        with _refusing(root.start_mark.name):
            data = loader.construct_document(root)
    finally:
        loader.dispose()
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [_problem(e, root, known) for e in found[: NAMED - 1]]
        if len(found) > len(problems):
            problems.append(Problem(f"{len(found) - len(problems)} more errors",
                                    fix="Correct these first, then run again", file=root.start_mark.name))
        raise Refused(problems) from None


def overlaid(base: yaml.MappingNode, over: yaml.MappingNode, whole: str) -> yaml.MappingNode:
    """`base` with the keys of `over` exchanged or added, section by section.

    A section that holds the key `whole` in `over` replaces the one of `base` altogether.
    """
    found = {key.value: (key, value) for key, value in base.value}
    for key, value in over.value:
        old = found.get(key.value, (key, None))[1]
        if (isinstance(old, yaml.MappingNode) and isinstance(value, yaml.MappingNode)
                and all(k.value != whole for k, _ in value.value)):
            value = overlaid(old, value, whole)
        found[key.value] = key, value
    return yaml.MappingNode(over.tag, list(found.values()), over.start_mark, over.end_mark)


@contextlib.contextmanager
def _refusing(file: str) -> Iterator[None]:
    """What the YAML library raises, as a sentence with the line."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise refuse(f"not valid YAML: {error.problem or error.context}", file=mark.name if mark else file,
                     where=f"line {mark.line + 1}" if mark else "", fix="Correct the syntax there") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # the last three are what YAML's constructors raise for "!!bool maybe" and the like
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"not valid YAML: {first}", file=file, fix="Correct the file") from None


def _events(text: str, file: str, example: str) -> list[Problem]:
    """What YAML allows and these files do not: aliases (they can grow without end) and deep nesting."""
    depth = 0
    for event in yaml.parse(_Named(text, file), Loader=_Loader):
        mark = event.start_mark
        where = f"line {mark.line + 1}" if mark else ""
        if isinstance(event, yaml.AliasEvent):
            return [Problem("an alias (*name) is used", where, "Write the value out", file)]
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            return [Problem("it is nested too deeply", where, example, file)]
    return []


def _nodes(root: Any, file: str) -> list[Problem]:
    """Keys that appear twice (YAML would keep the last) or are no names, and values of types that no key takes."""
    problems: list[Problem] = []
    stack: list[tuple[Any, str]] = [(root, "")]
    while stack:
        node, path = stack.pop()
        where = f"line {node.start_mark.line + 1}" + (f", key '{path}'" if path else "")
        if node.tag not in _TYPES:
            name = node.tag.removeprefix("tag:yaml.org,2002:")
            problems.append(Problem(f"YAML reads the value as '{name}'", where,
                                    "Put text in quotes, and write numbers and lists without a '!' tag", file))
        elif node.tag == "tag:yaml.org,2002:int" and _beyond(str(node.value)):
            problems.append(Problem(f"the integer {str(node.value)[:30]} ... is beyond {INTEGER_LIMIT}", where,
                                    "Correct the value", file))
        elif isinstance(node, yaml.SequenceNode):
            stack += ((item, f"{path}.{k}".lstrip(".")) for k, item in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                where = f"line {key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                    problems.append(Problem("a key is not text", where, "Use a plain name as the key", file))
                elif key.value in seen:
                    problems.append(Problem(f"key '{key.value}' appears twice", where, "Remove one of them", file))
                else:
                    seen.add(key.value)
                stack.append((value, f"{path}.{key.value}".lstrip(".") if isinstance(key.value, str) else path))
    return problems


def _beyond(text: str) -> bool:
    """Whether an integer as YAML writes it (decimal, hexadecimal, octal, binary) exceeds what files may hold."""
    if len(text) > 60:
        return True
    try:
        return abs(int(text.replace("_", ""), 0)) > INTEGER_LIMIT
    except ValueError:  # 0777 and 1:30 are YAML's own
        return len(text) > 17


def place_of(root: yaml.Node, loc: tuple[Any, ...]) -> tuple[str, int, tuple[str, ...]]:
    """File, line (from 1) and the keys of the deepest YAML node that a pydantic location names."""
    node, mark, keys = root, root.start_mark, []
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue  # a name of pydantic's own ("int"), or a key that is missing
            mark, node = found[0].start_mark, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            continue
        keys.append(str(part))
    return mark.name, mark.line + 1, tuple(keys)


def _problem(error: Any, root: yaml.Node, known: Iterable[str]) -> Problem:
    loc = error["loc"]
    file, line, keys = place_of(root, loc)
    kind, got = error["type"], error.get("input")
    key = ".".join(keys)
    if kind == "missing":
        key = ".".join([*keys, str(loc[-1])])
        what, fix = f"key '{loc[-1]}' is missing", "Add it; a number that is not public is null, confidence unknown"
    elif kind == "extra_forbidden":
        close = difflib.get_close_matches(str(loc[-1]), known, 1)
        what = f"key '{loc[-1]}' is not known here"
        fix = f"Did you mean '{close[0]}'?" if close else "Remove it"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        name = error["ctx"]["discriminator"].strip("'")
        tag = error["ctx"].get("tag")
        what = f"{name} '{tag}' is not known" if tag else f"key '{name}' is missing"
        expected = error["ctx"].get("expected_tags")
        fix = f"Use one of {expected}" if expected else f"Add {name}: it says which keys belong here"
    else:
        shown = _shown(got)
        message = error["msg"].removeprefix("Value error, ")
        what, fix = f"{message[:1].lower()}{message[1:]}, got {shown[:80]}", "Correct the value"
        if kind == "value_error":
            what, fix = message, "Give the value, or null with confidence unknown"
    return Problem(what, f"line {line}, key '{key}'", fix, file)


def _shown(value: Any) -> str:
    """A value as an error quotes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value[:10]))}{', ...' if len(value) > 10 else ''}]"
    return ascii(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
