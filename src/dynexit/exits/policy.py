"""The decision to leave: which layers, judge and thresholds, and what of skipped layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dynexit.errors import UserError
from dynexit.exits.judge import Judge
from dynexit.exits.skipped import SkippedState
from dynexit.exits.translator import Translators


class Schedule(Protocol):
    """How a threshold moves with the position of a token in the answer."""

    def threshold(self, base: float, position: int) -> float:
        """The threshold for answer token ``position`` (from 0)."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same threshold at every position."""

    def threshold(self, base: float, position: int) -> float:
        return base


@dataclass(frozen=True)
class ExitPolicy:
    """A token leaves at the first exit whose score is at least its threshold.

    A threshold above 1 can never be reached: such an exit is checked and never taken.
    """

    judge: Judge
    thresholds: tuple[float, ...]
    state: SkippedState
    schedule: Schedule = field(default_factory=Constant)
    translators: Translators | None = None

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.judge.layers):
            raise UserError(
                f"{len(self.thresholds)} thresholds for {len(self.judge.layers)} exit layers"
            )
        if any(not threshold >= 0.0 for threshold in self.thresholds):
            raise UserError("a threshold must be a number of at least 0")

    @property
    def layers(self) -> tuple[int, ...]:
        return self.judge.layers

    def limits(
        self, exit: int, positions: Sequence[int], thresholds: tuple[float, ...] | None = None
    ) -> list[float]:
        """The scores at which tokens at these positions of their answers leave here, with other
        thresholds than the policy's if given."""
        base, schedule = (thresholds or self.thresholds)[exit], self.schedule
        if isinstance(schedule, Constant):
            return [base] * len(positions)
        return [schedule.threshold(base, position) for position in positions]
