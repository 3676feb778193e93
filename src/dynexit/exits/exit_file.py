"""Reading the fields of ``exits.json``, each with the type it must have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from dynexit.errors import UserError


@dataclass(frozen=True)
class Fields:
    """A JSON object out of a file; ``place`` is where in the file, for messages.

    Every getter raises ``UserError`` naming file and field where the field is missing or wrong.
    """

    path: Path
    content: dict[str, Any]
    place: str = ""

    def text(self, name: str) -> str:
        value = self._get(name)
        return value if isinstance(value, str) else self._refuse(name, "text")

    def boolean(self, name: str) -> bool:
        value = self._get(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false")

    def integer(self, name: str) -> int:
        value = self._get(name)
        return value if _is_integer(value) else self._refuse(name, "a whole number")

    def number(self, name: str) -> float:
        value = self._get(name)
        return float(value) if _is_number(value) else self._refuse(name, "a number")

    def integers(self, name: str) -> list[int]:
        values = self._list(name)
        return values if all(map(_is_integer, values)) else self._refuse(name, "whole numbers")

    def numbers(self, name: str) -> list[float]:
        values = self._list(name)
        if not all(map(_is_number, values)):
            self._refuse(name, "a list of numbers")
        return [float(value) for value in values]

    def within(self, name: str) -> Fields:
        """The object under ``name``."""
        value = self._get(name)
        if not isinstance(value, dict):
            self._refuse(name, "an object")
        return Fields(self.path, value, f"{self.place}{name}.")

    def count(self, name: str) -> int:
        """Length of the list under ``name``."""
        return len(self._list(name))

    def item(self, name: str, index: int) -> Fields:
        """The object at ``index`` of the list under ``name``."""
        value = self._list(name)[index]
        if not isinstance(value, dict):
            self._refuse(name, "a list of objects")
        return Fields(self.path, value, f"{self.place}{name}[{index}].")

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        return value if isinstance(value, list) else self._refuse(name, "a list")

    def _get(self, name: str) -> Any:
        if name not in self.content:
            raise UserError(f"{self.path}: field {self.place}{name} is missing; train exits again")
        return self.content[name]

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise UserError(f"{self.path}: field {self.place}{name} must be {wanted}; mend the file")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
