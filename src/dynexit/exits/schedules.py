"""Depth by position: how the thresholds of an exit policy move along an answer.

Early tokens decide what later ones follow, and a mistake in them spreads; later ones are easier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dynexit.errors import UserError


@dataclass(frozen=True)
class Decaying:
    """CALM's decaying threshold (Schuster et al. 2022, the decaying threshold function).

    ``clip(0.9 base + 0.1 exp(-temperature position / length), 0, 1)``: higher by a tenth at the
    beginning, lower by up to a tenth at the end. ``length`` is the greatest number of tokens of an
    answer. A threshold above 1, which can never be reached, stays one.
    """

    length: int
    temperature: float = 4.0

    def __post_init__(self) -> None:
        _check_length(self.length)
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise UserError(f"temperature is {self.temperature}; give a number of at least 0")

    def threshold(self, base: float, position: int) -> float:
        """The threshold for answer token ``position`` (from 0)."""
        if base > 1.0:
            return base
        decay = math.exp(-self.temperature * position / self.length)
        return min(1.0, max(0.0, 0.9 * base + 0.1 * decay))


@dataclass(frozen=True)
class DepthByPosition:
    """SkipDecode's depth by position (Del Corro et al. 2023): no judge decides.

    The depth falls along a line from the deepest exit to the shallowest, so that no token goes
    deeper than one before it. Its thresholds are those of ``openings``: the share of ``length``
    from which an exit is open; at an open exit every token leaves, whatever its score, so use it
    with the judge that costs nothing (fixed). SkipDecode leaves out lower layers of a fine-tuned
    model and runs the upper ones; here a token runs the lower ones and leaves, which a frozen
    model bears.
    """

    length: int

    def __post_init__(self) -> None:
        _check_length(self.length)

    def threshold(self, base: float, position: int) -> float:
        """0 where the exit is open, infinite where it is closed."""
        return 0.0 if position >= base * self.length else math.inf


def openings(layers: Sequence[int], deepest: int, shallowest: int) -> tuple[float, ...]:
    """Thresholds for ``DepthByPosition``: for each exit layer the share of the answer, in [0, 1],
    from which tokens may leave there, as the depth falls from ``deepest`` to ``shallowest``.

    Exits below ``shallowest`` are never open (infinite).
    """
    if not 1 <= shallowest <= deepest:
        raise UserError(f"depths {deepest} to {shallowest}: give at least 1, the deepest first")
    fall = max(1, deepest - shallowest)
    return tuple(
        math.inf if layer < shallowest else max(0, deepest - layer) / fall for layer in layers
    )


def _check_length(length: int) -> None:
    if length < 1:
        raise UserError(f"length is {length}; give the greatest number of tokens of an answer")
