"""Rows of a file, told where they are, so that a fault in one can be named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from dynexit.errors import UserError
from dynexit.evaluation.jsonl import read_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """A JSON object of a file; ``place`` names file and line for messages."""

    place: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        return self._of(name, str, "text")

    def whole(self, name: str) -> int:
        return self._of(name, int, "a whole number")

    def number(self, name: str) -> float:
        value = self.fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise self.wrong(name, "a number")
        return float(value)

    def object(self, name: str) -> Record:
        """The object in a field; absent or null is empty."""
        if self.fields.get(name) is None:
            return Record(f"{self.place}, {name}", {})
        fields: dict[str, Any] = self._of(name, dict, "an object")
        return Record(f"{self.place}, {name}", fields)

    def list(self, name: str) -> list[Any]:
        """The list in a field; absent or null is empty."""
        if self.fields.get(name) is None:
            return []
        return self._of(name, list, "a list")

    def maybe(self, name: str) -> float | None:
        return None if self.fields.get(name) is None else self.number(name)

    def numbers(self) -> dict[str, float]:
        """All of its numbers, by name; null is left out."""
        return {name: self.number(name) for name, v in self.fields.items() if v is not None}

    def wrong(self, name: str, wanted: str) -> UserError:
        return UserError(
            f"{self.place}: field {name!r} must be {wanted}; is this a sweep of dynexit?"
        )

    def _of(self, name: str, kind: type[T], wanted: str) -> T:
        value = self.fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(name, wanted)
        return value


def read_records(path: Path) -> list[Record]:
    """The objects of a JSON Lines file in order; none if there is no file."""
    rows = enumerate(read_rows(path), 1)
    return [Record(f"{path}, line {number}", row) for number, row in rows]
