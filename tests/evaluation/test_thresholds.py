"""The search for a threshold finds what trying all of them would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.thresholds import GRID, smallest_by_exit, smallest_consistent


@given(st.lists(st.floats(0, 1), min_size=len(GRID), max_size=len(GRID)), st.floats(0, 1))
def test_equals_trying_all(values: list[float], target: float) -> None:
    rising = dict(zip(GRID, sorted(values), strict=True))
    asked: list[float] = []

    def consistency_at(threshold: float) -> float:
        asked.append(threshold)
        return rising[threshold]

    expected = next((t for t in GRID if rising[t] >= target), None)
    assert smallest_consistent(consistency_at, target) == expected
    assert len(asked) <= 6


@given(
    st.lists(st.floats(0, 1), min_size=len(GRID), max_size=len(GRID)),
    st.floats(0, 1),
    st.floats(0, 1.1),
)
def test_a_guess_changes_no_finding(values: list[float], target: float, guess: float) -> None:
    rising = dict(zip(GRID, sorted(values), strict=True))
    plain = smallest_consistent(rising.__getitem__, target)
    assert smallest_consistent(rising.__getitem__, target, guess=guess) == plain


def test_a_right_guess_asks_twice() -> None:
    asked: list[float] = []

    def consistency_at(threshold: float) -> float:
        asked.append(threshold)
        return float(threshold >= GRID[17])

    assert smallest_consistent(consistency_at, 0.5, guess=GRID[17]) == GRID[17]
    assert asked == [GRID[17], GRID[16]]


def test_none_when_nothing_is_consistent() -> None:
    assert smallest_consistent(lambda threshold: 0.5, target=0.97) is None


def test_the_first_exit_may_spend_most() -> None:
    def consistency_at(thresholds: tuple[float, ...]) -> float:
        return 1.0 - 0.1 * sum(max(0.0, 0.9 - value) for value in thresholds)

    chosen = smallest_by_exit(consistency_at, 3, 0.98)
    assert 1.0 - consistency_at(chosen) <= 0.02
    assert chosen[0] < chosen[1] <= chosen[2]


def test_an_exit_that_is_never_right_is_never_taken() -> None:
    def consistency_at(thresholds: tuple[float, ...]) -> float:
        return 0.5 if thresholds[1] <= 1.0 else 1.0

    chosen = smallest_by_exit(consistency_at, 2, 0.97)
    assert chosen[0] == min(GRID)
    assert chosen[1] > 1.0
