"""The front: what no other point beats, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.pareto import front

Pair = tuple[int, int]


def beats(a: Pair, b: Pair) -> bool:
    return a != b and a[0] <= b[0] and a[1] >= b[1]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8))))
def test_is_the_points_that_none_beats(points: list[Pair]) -> None:
    found = front(points, cost=lambda p: p[0], value=lambda p: p[1])
    expected = {p for p in points if not any(beats(q, p) for q in points)}
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found == sorted(found)
    assert [p[1] for p in found] == sorted(p[1] for p in found)


def test_of_equal_points_the_first() -> None:
    points = [("b", 1.0, 2.0), ("a", 1.0, 2.0), ("c", 2.0, 2.0)]
    assert front(points, lambda p: p[1], lambda p: p[2]) == points[:1]
    assert front([], lambda p: p, lambda p: p) == []
