"""Consistency on cases worked out by hand, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.consistency import (
    Consistency,
    Divergence,
    compare,
    consistency,
    divergence,
    first_divergence,
)
from dynexit.inference.generation import GeneratedToken, Generation

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


def made(text: str, tokens: list[tuple[int, int]]) -> Generation:
    """An answer of (id, exit layer)."""
    parts = tuple(GeneratedToken(i, "", layer, None) for i, layer in tokens)
    return Generation(3, parts, text, 6, 1.0, 0.0, "stop")


FULL = [
    made("a b c d", [(1, 6), (2, 6), (3, 6), (4, 6)]),
    made("same", [(7, 6), (8, 6)]),
    made("x y", [(5, 6), (6, 6), (9, 6)]),
]
EARLY = [
    made("a x c", [(1, 2), (9, 2), (3, 4)]),
    made("same", [(7, 4), (8, 6)]),
    made("z", [(4, 4), (6, 2), (9, 2)]),
]


def test_compare_by_hand() -> None:
    found = compare(FULL, EARLY, [3, 2, 1])
    assert found.answers == pytest.approx(1 / 3)
    assert found.agreed == pytest.approx((1 + 2 + 0) / 9)
    assert found.rouge_l == pytest.approx((2 * 2 / 7 + 1 + 0) / 3)
    assert found.teacher_forced == pytest.approx(6 / 9)
    # layer 2: one right, one wrong; what comes after the texts parted is not counted
    assert found.by_layer == {2: 0.5, 4: 0.5, 6: 1.0}
    assert found.divergence == Divergence(2, 0.5, ((0, 1, 1), (1, 2, 1)))


def test_compare_of_equals_and_of_nothing() -> None:
    found = compare(EARLY, EARLY)
    assert (found.answers, found.tokens, found.agreed, found.rouge_l) == (1.0, 1.0, 1.0, 1.0)
    assert found.teacher_forced is None
    assert found.divergence == Divergence(0, None, ())
    assert set(found.by_layer.values()) == {1.0}
    assert compare([], []).rouge_l == 1.0


@given(st.lists(st.tuples(ids, ids), min_size=1))
def test_divergences(pairs: list[tuple[list[int], list[int]]]) -> None:
    found = divergence([a for a, _ in pairs], [b for _, b in pairs])
    places = [at for a, b in pairs if (at := first_divergence(a, b)) is not None]
    assert found.answers == len(places) == sum(count for _, _, count in found.histogram)
    for start, end, count in found.histogram:
        assert count == sum(start <= at < end for at in places)
    edges = [edge for start, end, _ in found.histogram for edge in (start, end)]
    assert edges == sorted(edges)


def test_long_divergences_share_a_bin() -> None:
    full, early = [[0] * 20, [0] * 20], [[0] * 9 + [1] * 11, [0] * 15 + [1] * 5]
    assert divergence(full, early).histogram[-1] == (8, 16, 2)
    assert divergence(full, early).median == 12.0
