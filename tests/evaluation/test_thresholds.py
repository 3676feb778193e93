"""The search for a threshold finds what trying all of them would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.thresholds import GRID, smallest_consistent


@given(st.lists(st.floats(0, 1), min_size=len(GRID), max_size=len(GRID)), st.floats(0, 1))
def test_equals_trying_all(values: list[float], target: float) -> None:
    rising = dict(zip(GRID, sorted(values), strict=True))
    asked: list[float] = []

    def consistency_at(threshold: float) -> float:
        asked.append(threshold)
        return rising[threshold]

    expected = next((t for t in GRID if rising[t] >= target), None)
    assert smallest_consistent(consistency_at, target) == expected
    assert len(asked) <= 5


def test_none_when_nothing_is_consistent() -> None:
    assert smallest_consistent(lambda threshold: 0.5, target=0.97) is None
