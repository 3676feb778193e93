"""Load shedding by depth: under load tokens leave earlier, so that they keep coming in time.

A controller with hysteresis: it goes up a level when tokens are late for a while, and down again
when they are well in time for longer. It moves one level at a time, and looks anew after each move.
"""

from __future__ import annotations

from dataclasses import dataclass

SMOOTHING = 0.1  # weight of the newest token time in the mean
EASY = 0.7  # share of the target below which a level is given back


@dataclass
class Shedder:
    """Chooses a level from 0 to ``levels`` - 1 for a ``target`` of seconds a token.

    ``up_after`` and ``down_after`` are the tokens to look at before a move.
    """

    target: float
    levels: int
    up_after: int = 16
    down_after: int = 64

    level: int = 0
    _mean: float = 0.0
    _seen: int = 0

    def observe(self, seconds: float) -> int:
        """The level after a token that took this long."""
        weight = max(SMOOTHING, 1.0 / (self._seen + 1))  # a plain mean at first
        self._mean += weight * (seconds - self._mean)
        self._seen += 1
        if self._mean > self.target and self._seen >= self.up_after:
            self._move(+1)
        elif self._mean < EASY * self.target and self._seen >= self.down_after:
            self._move(-1)
        return self.level

    def rest(self) -> int:
        """The level after a while with nothing to do: one less."""
        self._move(-1)
        return self.level

    def _move(self, by: int) -> None:
        level = min(max(self.level + by, 0), self.levels - 1)
        if level != self.level:
            self.level, self._mean, self._seen = level, 0.0, 0
