"""The smallest threshold at which answers are still the full model's, found on validation items.

This is a choice without a guarantee; risk control with one is in ``calibration``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

from dynexit.training.measure import NEVER

# Scores crowd near 1, those of trained judges more the surer they are: even steps of a quarter in
# log odds, from 0.27 to all but 1.
GRID = tuple(1.0 / (1.0 + math.exp(-quarters / 4)) for quarters in range(-4, 57))


def smallest_consistent(
    consistency_at: Callable[[float], float],
    target: float,
    grid: Sequence[float] = GRID,
    guess: float | None = None,
) -> float | None:
    """The smallest threshold of ``grid`` whose consistency is at least ``target``, or None.

    Consistency is taken to grow with the threshold, so the grid is searched by halving: a grid of
    61 asks ``consistency_at`` (which decodes) for 6 thresholds, or for 2 if ``guess`` is right.
    """
    low, high = 0, len(grid)  # every threshold below `low` failed, all from `high` on passed
    guesses = [] if guess is None else [bisect_left(grid, guess) - 1, bisect_left(grid, guess)]
    while low < high:
        middle = guesses.pop() if guesses else (low + high) // 2
        if not low <= middle < high:
            continue
        if consistency_at(grid[middle]) >= target:
            high = middle
        else:
            low = middle + 1
    return grid[high] if high < len(grid) else None


def smallest_by_exit(
    consistency_at: Callable[[tuple[float, ...]], float],
    exits: int,
    target: float,
    grid: Sequence[float] = GRID,
) -> tuple[float, ...]:
    """A threshold for each exit, chosen from the first on; above 1 where none of ``grid`` will do.

    Each exit may spend four fifths of the inconsistency that is left: the first saves most layers
    and sees most tokens, and the few that go on are hard to judge.
    """
    chosen: list[float] = []
    for exit in range(exits):
        allowed = (1.0 - target) * (1.0 - 0.2 ** (exit + 1))
        rest = (NEVER,) * (exits - exit - 1)
        ask = partial(_with, consistency_at, tuple(chosen), rest)
        found = smallest_consistent(ask, 1.0 - allowed, grid)
        chosen.append(NEVER if found is None else found)
    return tuple(chosen)


def _with(
    consistency_at: Callable[[tuple[float, ...]], float],
    before: tuple[float, ...],
    after: tuple[float, ...],
    value: float,
) -> float:
    return consistency_at((*before, value, *after))
