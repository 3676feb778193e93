"""Questions to calibrate on, drawn independently of one another.

The p-values of calibration hold for independent losses. Turns of one conversation are not: they
share a story. So of each conversation one turn is drawn, and the risk is that of a turn drawn at
random from a conversation drawn at random.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dynexit.errors import UserError
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.training.corpus import read_samples

QUESTIONS = 300  # in all, where no limit is given
SEED = 3  # of the reference tasks' order; 0 is what ``eval`` asks, 1 the recipe, 2 the demo
_TURNS = 8  # more than any conversation of the reference tasks has
_REFERENCE = "reference"


def calibration_tasks(names: Sequence[str], limit: int | None, data: Path | None) -> list[Task]:
    """The tasks of these names with at most ``limit`` independent questions each (None: about
    ``QUESTIONS`` in all). Of the reference tasks, none of those that ``eval`` asks by default."""
    others = [name for name in names if name != _REFERENCE]
    official = load_tasks(others, None, data) if others or not names else {}
    found = [(task, set[str]()) for parts in official.values() for task in parts]
    if _REFERENCE in names:
        asked = reference_tasks()
        share = limit or math.ceil(QUESTIONS / (len(found) + len(asked)))
        pool = reference_tasks(share * _TURNS, SEED)
        seen = [{question.prompt for question in task.questions} for task in asked]
        found += zip(pool, seen, strict=True)
    share = limit or math.ceil(QUESTIONS / len(found))
    return [independent(task, share, SEED, avoid) for task, avoid in found]


def prompt_task(path: Path, limit: int | None, max_new_tokens: int) -> Task:
    """The prompts of a file (as ``train-exits --data`` takes it) as a task without gold answers."""
    prompts = [sample.prompt for sample in read_samples(path)]
    if not all(prompts):
        raise UserError(f"{path} holds texts without a prompt; calibration needs prompts to answer")
    questions = tuple(Question(prompt, ()) for prompt in prompts)
    task = Task("prompts", questions, lambda answer, question: {}, (), max_new_tokens)
    return independent(task, limit or len(questions), SEED)


def independent(task: Task, limit: int, seed: int, avoid: Collection[str] = ()) -> Task:
    """At most ``limit`` questions of ``task`` in random order, one of each conversation.

    Questions with a prompt in ``avoid`` are left out.
    """
    rng = random.Random(f"calibration-{seed}")
    drawn = [rng.choice(turns) for turns in conversations(task.questions)]
    rng.shuffle(drawn)
    left = [question for question in drawn if question.prompt not in avoid]
    return replace(task, questions=tuple(left[:limit]))


def conversations(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions by conversation: the prompt of a later turn begins with that of the turn before."""
    found: list[list[Question]] = []
    for question in questions:
        if found and question.prompt.startswith(found[-1][-1].prompt):
            found[-1].append(question)
        else:
            found.append([question])
    return found


def data_digest(tasks: Sequence[Task]) -> str:
    """A digest of what is asked, of the gold answers and of where an answer ends."""
    content = [
        [task.name, task.stop, task.max_new_tokens, [[q.prompt, q.answers] for q in task.questions]]
        for task in tasks
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
