"""What to do with a network: method, bits, sparsity, allocation, by layer or by pattern. A YAML file, or flags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from ..by_layer import matches, split
from ..errors import Problem, Refused
from ..files.yaml_file import Part, parse, read_text
from ..network.grid import Levels, Scale, Scheme
from ..shown import listed
from .methods import Allocation, Method, methods


def _known(what: str, names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Names of an open table: what is known is asked when a recipe is read, not when this file is."""

    def check(name: str) -> str:
        known = tuple(names())
        if name not in known:
            raise PydanticCustomError("unknown_name", "unknown {what}", {"what": what, "known": known})
        return name

    return AfterValidator(check)


MethodName = Annotated[str, _known("method", methods)]


def _supports() -> Iterable[str]:
    from .maths.supports import SUPPORTS  # which needs torch

    methods()  # those of installed packages, too
    return SUPPORTS


Support = Annotated[str, _known("support", _supports)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Bits = Annotated[int, Field(ge=1, le=16)]
Positive = Annotated[int, Field(ge=1)]
Listed = Field(strict=False)  # YAML has lists and no tuples; what they hold stays strict


class LayerRecipe(Part):
    """Exceptions for some layers; what is None is the recipe's. Later entries win."""

    #: Shell pattern of the layers' names.
    match: Annotated[str, Field(min_length=1)]
    #: Share of zeros of each of these layers; they take no part in the allocation then.
    sparsity: Share | None = None
    #: Stored bits per weight.
    bits: Bits | None = None
    #: Most inputs of each neuron.
    fan_in: Positive | None = None
    #: The layers stay as they are.
    keep: bool = False


class GridRecipe(Part):
    """The kind of grid; see grid.Scheme."""

    #: Which integers it has; the method's when None.
    levels: Levels | None = None
    #: One step for each row, or one for the layer.
    scale: Scale = "per-channel"
    #: Steps are powers of two.
    power_of_two: bool = False
    #: Of its range: at the largest weight ("min-max"), or where the layer's loss is least ("search"); the method's when
    #: None.
    ends: Literal["min-max", "search"] | None = None


class Recipe(Part):
    """How to compress a network: the keys of a YAML recipe, and the flags of `compress`."""

    def __repr__(self) -> str:
        given = self.model_dump(mode="json", exclude_defaults=True) | {"method": self.method}
        return listed(f"Recipe({', '.join(f'{key}={text!r}' for key, text in given.items())})")

    #: One of the methods; what it switches on is the default of much below.
    method: MethodName = "sbc"
    #: Stored bits per weight; None leaves the weights that stay in floating point.
    bits: Bits | None = None
    #: Share of zeros over all layers that are compressed, shared out by `allocation`.
    sparsity: Share = 0.0
    #: Bytes for all weights instead of bits and sparsity: chooses both for each layer (allocation "loss").
    budget: Positive | None = None
    #: Bits that a budget chooses among.
    budget_bits: Annotated[tuple[Bits, ...], Listed, Field(min_length=1)] = (8, 6, 4, 3, 2)
    #: How the sparsity is shared out; the method's when None.
    allocation: Allocation | None = None
    #: Most inputs of each neuron.
    fan_in: Positive | None = None
    #: The kind of grid.
    grid: GridRecipe = GridRecipe()
    #: How pruned weights are chosen; the method's when None.
    support: Support | None = None
    #: Weights that a row loses at once in the OBS ordering.
    block_in: Positive = 1
    #: Epochs in which the weights that stay learn the outputs of the uncompressed network on the calibration data,
    #: without labels (finetuning.finetune); the method's where a recipe that prunes names none.
    distill: Annotated[int, Field(ge=0)] | None = None
    #: "corrected" lets each bias, where there is one, make up for the mean error of its row.
    biases: Literal["kept", "corrected"] = "kept"
    #: Added to the Hessian's diagonal, as a share of its mean.
    damping: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    #: Exceptions by name.
    layers: Annotated[tuple[LayerRecipe, ...], Listed] = ()

    @property
    def how(self) -> Method:
        return methods()[self.method]

    @property
    def shared_out(self) -> Allocation:
        return self.allocation or self.how.allocation

    @property
    def distilled(self) -> int:
        """Epochs with the original as teacher."""
        prunes = self.sparsity or self.budget or self.fan_in or any(e.sparsity or e.fan_in for e in self.layers)
        return self.distilled_pruned if prunes or self.distill is not None else 0

    @property
    def distilled_pruned(self) -> int:
        """Likewise, once something is pruned."""
        return self.how.distill if self.distill is None else self.distill

    @property
    def search(self) -> bool:
        """Whether ends of grids are searched."""
        return self.how.search if self.grid.ends is None else self.grid.ends == "search"

    def of(self, layer: str) -> LayerRecipe:
        """What holds for one layer."""
        found = LayerRecipe(match=layer, bits=self.bits, fan_in=self.fan_in)
        for exception in self.layers:
            if matches(layer, exception.match):
                said = exception.model_dump(exclude_unset=True, exclude={"match"})
                found = found.model_copy(update=said)
        return found

    def scheme(self, bits: int) -> Scheme:
        """The kind of grid at so many bits."""
        return Scheme(bits, self.grid.levels or self.how.levels, self.grid.scale, self.grid.power_of_two)

    def check(self, layers: Iterable[str]) -> None:
        """Raises `Refused` for patterns that match no layer and for choices that exclude each other."""
        names, problems = tuple(layers), []
        for exception in self.layers:
            if not any(matches(name, exception.match) for name in names):
                problems.append(Problem(f"no layer matches '{exception.match}'", "recipe, layers",
                                        f"Layers are: {', '.join(names)}"))
        if self.budget is not None and (self.sparsity or self.bits is not None):
            problems.append(Problem("a byte budget chooses bits and sparsity itself", "recipe, budget",
                                    "Give a budget, or bits and sparsity, not both"))
        levels = self.grid.levels or self.how.levels
        chosen = {self.bits, *(exception.bits for exception in self.layers), *(self.budget_bits if self.budget else ())}
        if 1 in chosen and levels in ("twos-complement", "even"):
            problems.append(Problem(f"one bit is too few for levels '{levels}'", "recipe, bits",
                                    "Use 2 bits or more, or grid levels symmetric ({-1, 0, 1}) or pairs"))
        if problems:
            raise Refused(problems)


_KEYS = sorted({*Recipe.model_fields, *LayerRecipe.model_fields, *GridRecipe.model_fields})
_EXAMPLE = "A recipe holds keys such as method, bits, sparsity, layers; see docs/compression.md"


def load_recipe(path: str | Path) -> Recipe:
    """A recipe from a YAML file. Raises `Refused` with file, line and key of every error."""
    return parse(read_text(path, "recipe"), str(path), Recipe, "recipe", _KEYS, _EXAMPLE)


def recipe_of(base: Recipe | None = None, **flags: Any) -> Recipe:
    """`base` with the flags that are not None. Raises `Refused` for values out of range.

    bits and sparsity may name layers by patterns, {"fc*": 0.75, "*": 0.5}: they become the last of its `layers`.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        data = (base or Recipe()).model_dump(exclude_unset=True)
        for name in ("bits", "sparsity"):
            if isinstance(given.get(name), Mapping):
                number, by_layer = split(given.pop(name))
                given |= {} if number is None else {name: number}
                data["layers"] = (*data.get("layers", ()), *({"match": p, name: n} for p, n in by_layer.items()))
        data |= given
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise Refused(_problem(e) for e in error.errors(include_url=False)) from None


def _problem(error: Any) -> Problem:
    name, value = ".".join(map(str, error["loc"])), error["input"]
    if error["type"] == "unknown_name":
        return Problem(f"unknown {name} '{value}'", fix=f"Known: {', '.join(error['ctx']['known'])}")
    if error["type"] == "literal_error":
        return Problem(f"unknown {name} '{value}'", fix=f"Known: {error['ctx']['expected']}")
    if error["type"] == "extra_forbidden":
        return Problem(f"'{name}' is nothing that a recipe holds", fix=f"It may hold: {', '.join(_KEYS)}")
    message = error["msg"].removeprefix("Input")
    return Problem(f"{name} {value} can not be used: it{message}" if message != error["msg"] else
                   f"{name} {value} can not be used: {message}", fix="Correct the value")
