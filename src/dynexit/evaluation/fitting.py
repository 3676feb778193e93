"""Prompts cut to a model's context, so that a long document costs some of itself and no crash."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import replace

from dynexit.evaluation.tasks.task import Question, Task
from dynexit.models.loading import Model

_QUESTION = re.compile(r"^Q(?:uestion)?: ", re.MULTILINE)
_WORD = re.compile(r"\S+")


def fitted(model: Model, task: Task) -> Task:
    """The task with its prompts cut to leave room for an answer.

    Questions that don't fit even alone are left out, and with them the later turns of a
    conversation in the model's own words.
    """
    if model.backbone.config.max_positions is None:
        return task
    kept: list[Question] = []
    alive = True
    for question in task.questions:
        prompt = fit_prompt(model, question.prompt, _room(model, task, question))
        alive = prompt is not None and (alive or len(question.pieces) < 2)
        if prompt is not None and alive:
            kept.append(replace(question, prompt=prompt))
    return replace(task, questions=tuple(kept))


def fit_prompt(model: Model, prompt: str, room: int | None) -> str | None:
    """The prompt without as many words at its beginning as are beyond ``room`` tokens.

    The last question (a line that begins with "Q: " or "Question: ") stays whole; None where it is
    too long by itself. No room (None) is room for anything.
    """
    if room is None or _length(model, prompt) <= room:
        return prompt
    last = max((found.start() for found in _QUESTION.finditer(prompt)), default=0)
    starts = [found.start() for found in _WORD.finditer(prompt, 0, last)] + [last]
    chosen = bisect_left(starts, True, key=lambda at: _length(model, prompt[at:]) <= room)
    return prompt[starts[chosen] :] if chosen < len(starts) else None


def answer_room(model: Model, task: Task) -> int | None:
    """How many tokens of prompt leave room for the task's longest answer."""
    limit = model.backbone.config.max_positions
    return None if limit is None else limit - task.max_new_tokens


def _room(model: Model, task: Task, question: Question) -> int | None:
    limit = model.backbone.config.max_positions
    if limit is None or task.weigh is None:
        return answer_room(model, task)
    return limit - max(_length(model, f" {option}") for option in question.options)


def _length(model: Model, text: str) -> int:
    return len(model.tokenizer.encode(text))
