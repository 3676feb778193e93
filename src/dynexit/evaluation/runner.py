"""Answers with the full model and with exits, side by side in one run.

Every question is answered by all ways of decoding before the next one is begun, each time in
another order, so that whatever else the machine does falls on all of them alike. Decoding is one
text at a time, as on a device of one user; speed is that of the decoding steps, without the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.settings import GenerationSettings
from dynexit.models.loading import Model

FULL = "full"


@dataclass(frozen=True)
class Answer:
    """One way's answer to a question of a task."""

    task: Task
    question: Question
    generation: Generation


def settings_for(task: Task) -> GenerationSettings:
    """Greedy decoding to the task's end of an answer."""
    return GenerationSettings(max_new_tokens=task.max_new_tokens, stop=task.stop)


def answer_all(
    model: Model,
    tasks: Sequence[Task],
    policies: Mapping[str, ExitPolicy],
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[Answer]]:
    """The answers of the full model, under ``FULL``, and of each policy, in order of questions.

    ``tick`` is called after each question.
    """
    ways: dict[str, ExitPolicy | None] = {FULL: None, **policies}
    answers: dict[str, list[Answer]] = {name: [] for name in ways}
    asked = [(task, question) for task in tasks for question in task.questions]
    if asked:
        _warm_up(model, *asked[0], ways)
    names = list(ways)
    for number, (task, question) in enumerate(asked):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            generation = _answer(model, task, question, ways[name])
            answers[name].append(Answer(task, question, generation))
        tick()
    return answers


def answer_in_batches(
    model: Model, tasks: Sequence[Task], policy: ExitPolicy | None, size: int = 32
) -> list[Generation]:
    """Answers where only the text counts and not the time: many questions at once."""
    found: list[Generation] = []
    for task in tasks:
        prompts = [question.prompt for question in task.questions]
        for begin in range(0, len(prompts), size):
            batch = prompts[begin : begin + size]
            found += generate(model, batch, settings_for(task), policy)
    return found


def _warm_up(
    model: Model, task: Task, question: Question, ways: Mapping[str, ExitPolicy | None]
) -> None:
    """The first calls pay for memory, threads and pages of weights that later ones have."""
    for policy in ways.values():
        _answer(model, task, question, policy)


def _answer(model: Model, task: Task, question: Question, policy: ExitPolicy | None) -> Generation:
    return generate(model, [question.prompt], settings_for(task), policy)[0]
