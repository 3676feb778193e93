"""The points that no other point beats: none costs no more and is worth more, or costs less and is
worth as much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def front(points: Sequence[T], cost: Callable[[T], float], value: Callable[[T], float]) -> list[T]:
    """The Pareto front, in ascending cost and so in ascending value; O(n log n).

    Of points that are equal in both, the first is in it.
    """
    found: list[T] = []
    for point in sorted(points, key=lambda p: (cost(p), -value(p))):
        if not found or value(point) > value(found[-1]):
            found.append(point)
    return found
