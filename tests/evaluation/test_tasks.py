"""The reference tasks: prompts, gold answers, limits."""

from __future__ import annotations

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.reference import DEFAULT_LIMIT, reference_tasks


def test_reference_has_three_parts_of_the_asked_size() -> None:
    tasks = load_tasks(["reference"], limit=7)["reference"]
    assert [task.name for task in tasks] == ["trivia", "stories", "misconceptions"]
    assert [len(task.questions) for task in tasks] == [7, 7, 7]
    assert all(task.stop == ("\n",) for task in tasks)


def test_default_limit() -> None:
    assert {len(task.questions) for task in reference_tasks()} == {DEFAULT_LIMIT}


def test_a_turn_is_asked_with_the_gold_answers_before_it() -> None:
    stories = reference_tasks(limit=2)[1]
    first, second = stories.questions
    assert second.prompt.startswith(f"{first.prompt} {first.answers[0]}\nQ: ")
    assert second.prompt.endswith("\nA:")


def test_more_items_begin_with_the_fewer() -> None:
    for few, many in zip(reference_tasks(limit=3), reference_tasks(limit=9), strict=True):
        assert many.questions[:3] == few.questions


def test_seeds_give_other_questions() -> None:
    for one, other in zip(reference_tasks(5, seed=0), reference_tasks(5, seed=2), strict=True):
        assert one.questions != other.questions


def test_gold_answers_score_one_and_false_answers_less() -> None:
    for task in reference_tasks(limit=20):
        for question in task.questions:
            gold = task.score(f" {question.answers[0]}\n", question)
            assert gold == {"em": 1.0, "f1": 1.0}
            for wrong in question.false_answers:
                assert task.score(wrong, question)["em"] == 0.0


def test_unknown_task_and_limit_are_refused() -> None:
    with pytest.raises(UserError, match="'hellaswag' is not known; known are reference"):
        load_tasks(["reference", "hellaswag"])
    with pytest.raises(UserError, match="--limit 0"):
        load_tasks(["reference"], limit=0)
    with pytest.raises(UserError, match="no task named"):
        load_tasks([])
