"""Answers side by side, and the numbers made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynexit.evaluation.measure import measure
from dynexit.evaluation.runner import FULL, answer_all, answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.models import Model

EXIT = 2


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    short = [task for task in reference_tasks(limit=3) if task.name != "stories"]
    return [replace(task, max_new_tokens=5) for task in short]


def fixed(model: Model, threshold: float) -> ExitPolicy:
    judge = build_judge("fixed", (EXIT,), model.backbone.config.hidden)
    return ExitPolicy(judge, (threshold,), skipped_state("propagate"))


def test_every_way_answers_every_question_in_order(model: Model, tasks: list[Task]) -> None:
    ticks: list[None] = []
    policies = {"always": fixed(model, 0.5), "never": fixed(model, 2.0)}
    answers = answer_all(model, tasks, policies, lambda: ticks.append(None))
    questions = [question for task in tasks for question in task.questions]
    assert list(answers) == [FULL, "always", "never"]
    assert len(ticks) == len(questions) == 6
    for given in answers.values():
        assert [a.question for a in given] == questions
    batched = answer_in_batches(model, tasks, None, size=2)
    assert [g.ids for g in batched] == [a.generation.ids for a in answers[FULL]]


def test_numbers(model: Model, tasks: list[Task]) -> None:
    config = model.backbone.config
    policies = {"always": fixed(model, 0.5), "never": fixed(model, 2.0)}
    answers = answer_all(model, tasks, policies)
    full = answers[FULL]
    always = measure(full, answers["always"], config, policies["always"])
    assert always.n == 6
    assert always.layer_saving == pytest.approx(1 - EXIT / config.depth)
    assert 0.0 < always.flop_saving < always.layer_saving  # the readout is never saved
    assert always.speedup > 0.0
    assert set(always.metrics) == {"em", "f1"}
    assert sorted(always.levels) == sorted({a.question.level for a in full})
    never = measure(full, answers["never"], config, policies["never"])
    assert never.consistency.answers == never.consistency.tokens == 1.0
    assert never.layer_saving == 0.0
    assert never.metrics == never.full_metrics == always.full_metrics
    whole = measure(full, full, config, None)
    assert (whole.speedup, whole.flop_saving, whole.byte_saving) == (1.0, 0.0, 0.0)
