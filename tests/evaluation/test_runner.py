"""Answers side by side, and the numbers made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.measure import measure
from dynexit.evaluation.runner import FULL, answer_all, answer_in_batches, settings_for
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.evaluation.ways import Verified
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.speculative import Lossless
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


@pytest.mark.parametrize("batch", [2, 32])
def test_batches_give_the_same_answers_in_order(
    model: Model, tasks: list[Task], batch: int
) -> None:
    policies = {"always": fixed(model, 0.5), "never": fixed(model, 2.0)}
    ticks: list[None] = []
    one = answer_all(model, tasks, policies)
    many = answer_all(model, tasks, policies, lambda: ticks.append(None), batch)
    assert len(ticks) == 6
    for name, answers in one.items():
        assert [a.question for a in many[name]] == [a.question for a in answers]
        assert [a.generation.ids for a in many[name]] == [a.generation.ids for a in answers]


def conversation(turns: int) -> Task:
    pieces = [f"\nQ: what is {number}?\nA:" for number in range(turns)]
    questions = [
        Question("".join(pieces[: n + 1]), ("x",), pieces=tuple(pieces[: n + 1]))
        for n in range(turns)
    ]
    return Task("talk", (*questions, *questions[:2]), lambda a, q: {}, ("\n",), 4)


@pytest.mark.parametrize("batch", [1, 8])
def test_own_answers_stand_in_later_turns(model: Model, batch: int) -> None:
    policies = {"always": fixed(model, 0.5)}
    task = conversation(3)
    answers = answer_all(model, [task], policies, batch=batch)
    for name, policy in {FULL: None, **policies}.items():
        said = answers[name]
        prompt = task.questions[0].pieces[0]
        for turn in range(3):
            alone = generate(model, prompt, settings_for(task), policy)[0]
            assert said[turn].generation.ids == alone.ids
            assert said[turn].generation.prompt_tokens == alone.prompt_tokens
            if turn < 2:
                prompt += f" {alone.text.strip()}" + task.questions[turn + 1].pieces[-1]
        assert [a.generation.ids for a in said[3:]] == [a.generation.ids for a in said[:2]]


def test_own_history_needs_its_turns(model: Model) -> None:
    task = conversation(2)
    with pytest.raises(UserError, match="talk: a turn in the model's own words needs"):
        answer_all(model, [replace(task, questions=task.questions[1:2])], {})


@pytest.mark.parametrize("batch", [1, 4])
def test_drafts_give_the_full_models_answers(model: Model, tasks: list[Task], batch: int) -> None:
    way = Verified(fixed(model, 0.5), Lossless(max_draft=3, adapt=False))
    answers = answer_all(model, tasks, {"drafted": way}, batch=batch)
    full, drafted = answers[FULL], answers["drafted"]
    assert [a.generation.ids for a in drafted] == [a.generation.ids for a in full]
    found = measure(full, drafted, model.backbone.config, way.policy)
    assert found.consistency.answers == 1.0
    assert found.drafting is not None
    assert found.drafting.drafts > 0
    parts = [a.generation.drafting for a in drafted]
    assert found.drafting.accepted == sum(part.accepted for part in parts if part)
    passes = sum(found.drafting.passes)
    tokens = sum(len(a.generation.tokens) for a in drafted)
    assert found.layer_saving == pytest.approx(1 - passes / (tokens * model.backbone.depth))


def test_drafting_learns_from_question_to_question(model: Model, tasks: list[Task]) -> None:
    """Where all drafts fall, later questions of a task draft less than as many first ones."""
    way = Verified(fixed(model, 0.5), Lossless())
    long = replace(tasks[0], max_new_tokens=12, stop=())
    begun = sum(_drafts(model, replace(long, questions=(q,)), way) for q in long.questions)
    gone_on = _drafts(model, long, way)
    assert gone_on != begun  # its own exits may be good or bad, but what is known tells


def _drafts(model: Model, task: Task, way: Verified) -> int:
    answers = answer_in_batches(model, [task], way, size=1)
    return sum(answer.drafting.drafts for answer in answers if answer.drafting)
