"""Consistency on cases worked out by hand, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.consistency import Consistency, consistency, first_divergence

ids = st.lists(st.integers(0, 3), max_size=6)


def test_first_divergence() -> None:
    assert first_divergence([1, 2, 3], [1, 2, 3]) is None
    assert first_divergence([1, 2, 3], [1, 5, 3]) == 1
    assert first_divergence([1, 2, 3], [1, 2]) == 2
    assert first_divergence([], [4]) == 0
    assert first_divergence([], []) is None


def test_by_hand() -> None:
    full = [[1, 2, 3, 4], [7, 8]]
    early = [[1, 9, 3], [7, 8]]
    found = consistency(full, early)
    assert found.answers == 0.5
    assert found.tokens == pytest.approx((2 + 2) / (4 + 2))
    assert found.agreed == pytest.approx((1 + 2) / (4 + 2))


def test_nothing_to_compare_is_consistent() -> None:
    assert consistency([], []) == Consistency(1.0, 1.0, 1.0)
    assert consistency([[]], [[]]) == Consistency(1.0, 1.0, 1.0)


@given(st.lists(st.tuples(ids, ids), min_size=1))
def test_shares(pairs: list[tuple[list[int], list[int]]]) -> None:
    full, early = [a for a, _ in pairs], [b for _, b in pairs]
    found = consistency(full, early)
    for share in (found.answers, found.tokens, found.agreed):
        assert 0.0 <= share <= 1.0
    assert (found.answers == 1.0) == (full == early)
    assert consistency(full, full) == Consistency(1.0, 1.0, 1.0)
