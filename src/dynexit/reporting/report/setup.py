"""What it takes to make a sweep again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynexit.reporting.report.sweep import Sweep

# Fields of sweep.json in the order of the report; what else is there follows.
_ORDER = ("command", "date", "machine", "versions", "fingerprint", "family", "depth", "tasks")
_NAMES = {"tasks": "questions", "fingerprint": "weights", "depth": "layers"}
_HIDDEN = {"schema", "model", "digests"}


def setup_rows(sweep: Sweep) -> list[tuple[str, str]]:
    """Name and value of each fact, as plain text."""
    about = sweep.about
    names = [
        *(n for n in _ORDER if n in about),
        *(n for n in about if n not in {*_ORDER, *_HIDDEN}),
    ]
    rows = [(_NAMES.get(name, name), words(about[name])) for name in names]
    return [("model", str(about["model"])), *((name, value) for name, value in rows if value)]


def words(value: Any) -> str:
    """Any JSON value as a line of text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {words(v)}" for name, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(words(part) for part in value)
    return "" if value is None else str(value)
