"""What a suite is: configurations to run side by side, and rows made of what they measured."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.rounds import Found

Row = dict[str, Any]
Runs = Mapping[Hashable, Callable[[], float]]


class Suite(Protocol):
    """One suite for one model and plan."""

    def runs(self) -> Runs:
        """The configurations by a key each, the one that others are compared with first."""
        ...

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        """A row for each configuration that has run."""
        ...


def spread(found: Found, key: Hashable) -> Row:
    """Median, lowest and highest seconds of a configuration."""
    samples = found.samples[key]
    return {"seconds": samples.median, "low": samples.low, "high": samples.high}


def ratio(value: float | None, to: float | None) -> float | None:
    """``value / to``, None where either is not known."""
    return None if value is None or not to else value / to
