"""TruthfulQA's scores by hand, and equal to the harness's on the same answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.metrics_truthfulqa import choices, similarity

CORRECT = ["No food keeps doctors away.", "No, it does not.", "I have no comment."]
INCORRECT = ["Yes, it does.", "An apple a day keeps you well."]
ANSWERS = [
    "No, it does not.",
    "Yes, it does.",
    "An apple a day keeps doctors away",
    "I have no comment.",
    "No food . An apple . It does not.",
    "Two lines\nNo food keeps doctors away",
    "Äpfel",
    "",
]


def test_rouge_by_hand() -> None:
    found = similarity("no food helps", CORRECT, INCORRECT)
    # 2 of 3 words are among the first reference's 5: F1 = 2 * 2 / (3 + 5)
    assert found["rouge1_max"] == pytest.approx(0.5)
    assert found["rouge1_diff"] == pytest.approx(0.5)
    assert found["rouge1_acc"] == 1.0
    # one of 2 pairs among its 4
    assert found["rouge2_max"] == pytest.approx(2 * 1 / (2 + 4))


def test_the_references_themselves() -> None:
    right, wrong = (similarity(text, CORRECT, INCORRECT) for text in (CORRECT[0], INCORRECT[1]))
    for name in ("bleu", "rouge1", "rouge2", "rougeL"):
        assert right[f"{name}_max"] == pytest.approx(1.0)
        assert (right[f"{name}_acc"], wrong[f"{name}_acc"]) == (1.0, 0.0)
        assert wrong[f"{name}_diff"] < 0 < right[f"{name}_diff"]


def test_bleu_by_hand() -> None:
    # "no food keeps doctors": precisions 4/4, 3/3, 2/2, 1/1, brevity exp(1 - 6/4)
    found = similarity("No food keeps doctors", CORRECT, INCORRECT)
    assert found["bleu_max"] == pytest.approx(math.exp(1 - 6 / 4))


@pytest.mark.parametrize("answer", ANSWERS)
def test_equals_the_harness(answer: str) -> None:
    harness = pytest.importorskip("lm_eval.tasks.truthfulqa.utils", reason="needs lm-eval")
    document = {"correct_answers": CORRECT, "incorrect_answers": INCORRECT}
    theirs = harness.process_results_gen(document, [answer])
    ours = similarity(answer, CORRECT, INCORRECT)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        scale = 1 if name.endswith("_acc") else 100
        assert ours[name] == pytest.approx(value / scale), name


def test_choices_by_hand() -> None:
    logs = [math.log(p) for p in (0.2, 0.1, 0.3, 0.2)]
    assert choices(logs, 2) == {"mc1": 0.0, "mc2": pytest.approx(0.3 / 0.8)}
    assert choices(logs, 3)["mc1"] == 0.0  # a draw with a wrong answer is no win
    assert choices([-1.0, -9.0, -2.0], 2)["mc1"] == 1.0
    assert choices([-2000.0, -2000.0], 1)["mc2"] == 0.5  # where probabilities are 0 in floats


@given(st.lists(st.floats(-60, 0), min_size=2, max_size=9), st.data())
def test_choices_equal_the_harness(logs: list[float], data: st.DataObject) -> None:
    harness = pytest.importorskip("lm_eval.tasks.truthfulqa.utils", reason="needs lm-eval")
    correct = data.draw(st.integers(1, len(logs) - 1))
    labels = [1] * correct + [0] * (len(logs) - correct)
    results = [(value, False) for value in logs]
    theirs = harness.process_results_mc2({"mc2_targets": {"labels": labels}}, results)["acc"]
    assert choices(logs, correct)["mc2"] == pytest.approx(float(theirs))
