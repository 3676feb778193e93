"""Losses on answers worked out by hand, and their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.evaluation.losses import METRICS, TEXTUAL, loss_of, rouge_l
from dynexit.evaluation.runner import Answer
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Question
from dynexit.inference.generation import GeneratedToken, Generation

TASK = reference_tasks(limit=1)[0]
QUESTION = Question("Q: Where is it?\nA:", ("the red house",))
KINDS = (*TEXTUAL, *METRICS)


def answer(text: str, ids: Sequence[int]) -> Answer:
    tokens = tuple(GeneratedToken(i, "", 4, None) for i in ids)
    return Answer(TASK, QUESTION, Generation(3, tokens, text, 4, 1.0, 0.0, "stop"))


def loss(kind: str, full: Answer, early: Answer) -> float:
    return loss_of(kind, [TASK])(full, early)


def test_by_hand() -> None:
    full, early = answer("in the red house", [1, 2, 3, 4]), answer("in red house", [1, 3, 4])
    assert loss("text", full, early) == pytest.approx(1 - 2 * 3 / (3 + 4))
    assert loss("tokens", full, early) == 0.75
    assert loss("answer", full, early) == 1.0
    # without articles, "in red house" against "red house": the same F1 and EM as the full answer's
    assert loss("f1", full, early) == loss("em", full, early) == 0.0


def test_a_drop_counts_and_a_gain_does_not() -> None:
    right, wrong = answer("red house", [1, 2]), answer("blue house", [3, 2])
    assert loss("em", right, wrong) == 1.0
    assert loss("f1", right, wrong) == pytest.approx(0.5)
    assert loss("em", wrong, right) == loss("f1", wrong, right) == 0.0


texts = st.sampled_from(["", "red", "red house", "the house", "blue", "?", "红"])
ids = st.lists(st.integers(0, 3), min_size=1, max_size=5)


@given(texts, ids, texts, ids, st.sampled_from(KINDS))
def test_bounds(text: str, a: list[int], other: str, b: list[int], kind: str) -> None:
    full, early = answer(text, a), answer(other, b)
    found = loss(kind, full, early)
    assert 0.0 <= found <= 1.0
    assert loss(kind, full, full) == 0.0
    if loss_of(kind, [TASK]).binary:
        assert found in (0.0, 1.0)


def test_only_answer_is_exact() -> None:
    assert [kind for kind in KINDS if loss_of(kind, [TASK]).binary] == ["answer"]


def test_rouge_l() -> None:
    assert rouge_l("a b c d", "a x c d") == pytest.approx(0.75)
    assert rouge_l("", "") == rouge_l("?!", "?!") == 1.0
    assert rouge_l("红", "蓝") == 0.0  # no words in a-z: differs wholly unless equal


def test_unknown_kinds() -> None:
    with pytest.raises(UserError, match="choose from text, tokens, answer, f1, em"):
        loss_of("bleu", [TASK])
    prompts = replace(TASK, score=lambda answer, question: {})
    with pytest.raises(UserError, match="'f1' is not known for these tasks"):
        loss_of("f1", [TASK, prompts])
    choices = replace(TASK, weigh=lambda totals, question: {})
    with pytest.raises(UserError, match="multiple choice"):
        loss_of("text", [choices])
