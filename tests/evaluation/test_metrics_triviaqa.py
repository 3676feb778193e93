"""TriviaQA's scores on cases worked out by hand from the official script's rules."""

from __future__ import annotations

import pytest

from dynexit.evaluation import metrics
from dynexit.evaluation.metrics_triviaqa import exact_match, normalise, token_f1


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("The well-known  Man!", "well known man"),  # SQuAD would make it "wellknown man"
        ("U.S.A.", "u s"),  # the "a" that is left alone counts as an article
        ("\u2018Rock\u2019n\u00b4Roll`", "rock n roll"),
        ("snake_case", "snake case"),
        ("theatre", "theatre"),
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # not among the four
        ("", ""),
    ],
)
def test_normalise(text: str, bare: str) -> None:
    assert normalise(text) == bare


def test_exact_match_takes_any_alias() -> None:
    assert exact_match(" The Sunset-Blvd. ", ["sunset boulevard", "sunset blvd"]) == 1.0
    assert exact_match("sunset", ["sunset boulevard", "sunset blvd"]) == 0.0
    assert exact_match("Jay-Z", ["jay z"]) == 1.0
    assert metrics.exact_match("Jay-Z", ["jay z"]) == 0.0


def test_f1_by_hand() -> None:
    # said 3 words, alias 2, common 2
    assert token_f1("old Sunset Blvd", ["sunset boulevard", "sunset blvd"]) == pytest.approx(0.8)
    assert token_f1("moon", ["sunset blvd"]) == 0.0
    assert token_f1("", [""]) == 0.0  # official: nothing shared is 0, even of nothing


CASES = [
    ("Sunset Blvd", 1.0),
    ("sunset blvd!", 1.0),
    ("Sunset", 0.0),
    ("", 0.0),
    ("SUNSET BOULEVARD", 1.0),
]


@pytest.mark.parametrize(("answer", "right"), CASES)
def test_agrees_with_the_harness_where_both_normalise_alike(answer: str, right: float) -> None:
    harness = pytest.importorskip("lm_eval.api.metrics", reason="needs lm-eval")
    aliases = ["Sunset Blvd", "Sunset Boulevard"]
    flags = {"ignore_case": True, "ignore_punctuation": True}
    theirs = max(
        harness.exact_match_hf_evaluate(predictions=[answer], references=[alias], **flags)[
            "exact_match"
        ]
        for alias in aliases
    )
    assert theirs == exact_match(answer, aliases) == right
