"""One fact of a profile: a value with its unit, its source and how sure it is."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from ...files.yaml_file import Part

T = TypeVar("T")
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10**15)]  # sums of them stay within 64 bits
Width = Annotated[int, Field(ge=0, le=62)]  # of a number in bits, or of a shift: 2 to its power fits into 64 bits
Amount = Annotated[float, Field(ge=0)]

#: Bits in one unit of memory, for every unit that a profile may use.
UNIT_BITS = {"bits": 1, "bytes": 8, "KiB": 8192, "64-bit words": 64}


class Entry(Part, Generic[T]):
    """One fact. wall: more cores do not relieve it; budget: they do; advice: nothing is checked against it.

    value: None when no public figure exists. source: where it was seen; "@key" stands for an entry of `sources`.
    confidence: "documented" by the makers or in their code, "quoted" by a third party, "derived" from other
    figures, "unknown".
    """

    value: T | None
    unit: Text | None = None
    source: Text
    confidence: Literal["documented", "quoted", "derived", "unknown"]
    kind: Literal["wall", "budget", "advice"]
    note: Text | None = None

    @model_validator(mode="after")
    def _unknown_has_no_value(self) -> Entry[T]:
        if (self.value is None) != (self.confidence == "unknown"):
            raise ValueError("value is null exactly when confidence is unknown")
        return self


class MemorySize(Entry[Count]):
    """An amount of memory; its unit says how many bits one is."""

    unit: Literal["bits", "bytes", "KiB", "64-bit words"]

    @property
    def bits(self) -> int | None:
        return None if self.value is None else self.value * UNIT_BITS[self.unit]
