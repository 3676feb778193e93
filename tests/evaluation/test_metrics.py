"""Metrics on cases worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.metrics import exact_match, leave_one_out, normalise, token_f1

words = st.lists(st.sampled_from(["cat", "dog", "Paris", "blue"]), min_size=1).map(" ".join)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("The  Eiffel Tower.", "eiffel tower"),
        (" an apple, a day!", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre", "theatre"),
        ("the-end", "theend"),  # punctuation goes before articles, as in the official script
        ("", ""),
        ("Türkiye", "türkiye"),
    ],
)
def test_normalise(text: str, bare: str) -> None:
    assert normalise(text) == bare


def test_exact_match_takes_any_alias() -> None:
    assert exact_match(" the United States. ", ["USA", "United States"]) == 1.0
    assert exact_match("United", ["USA", "United States"]) == 0.0


def test_f1_by_hand() -> None:
    # said 3 words, gold 2, common 2: precision 2/3, recall 1
    assert token_f1("is in Paris France"[3:], ["Paris France"]) == pytest.approx(0.8)
    assert token_f1("green cat", ["blue dog", "green dog"]) == pytest.approx(0.5)
    assert token_f1("cat cat cat", ["cat"]) == pytest.approx(0.5)


def test_f1_of_nothing() -> None:
    assert token_f1("", ["cat"]) == 0.0
    assert token_f1("the", ["a"]) == 1.0  # both are empty once normalised
    assert token_f1("cat", []) == 0.0


@given(words, words)
def test_f1_is_symmetric_and_within_one(a: str, b: str) -> None:
    assert token_f1(a, [b]) == pytest.approx(token_f1(b, [a]))
    assert 0.0 <= exact_match(a, [b]) <= token_f1(a, [b]) <= 1.0


@given(words)
def test_the_gold_answer_is_right(text: str) -> None:
    assert exact_match(text, ["other", text]) == token_f1(text, ["other", text]) == 1.0


def test_leave_one_out_by_hand() -> None:
    golds = ["cat", "dog", "cat"]
    # without a "cat" the other is left; without "dog" both are
    assert leave_one_out(exact_match, "cat", golds) == 1.0
    # "dog" is right only where it is not the one left out
    assert leave_one_out(exact_match, "dog", golds) == pytest.approx(2 / 3)
    assert leave_one_out(exact_match, "dog", ["dog"]) == 1.0


@given(words, st.lists(words, min_size=1))
def test_leaving_one_out_never_helps(answer: str, golds: list[str]) -> None:
    assert leave_one_out(token_f1, answer, golds) <= token_f1(answer, golds) + 1e-12
