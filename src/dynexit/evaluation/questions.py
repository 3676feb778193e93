"""The questions of a sweep, the full model's answers to them, and other answers beside these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace

from dynexit.errors import UserError
from dynexit.evaluation.jsonl import Journal, Row
from dynexit.evaluation.points import Compared
from dynexit.evaluation.replay import Replay
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import Pricing
from dynexit.inference.generation import Generation
from dynexit.models.backbone import Backbone
from dynexit.models.loading import Model

_BATCH = 32


class Asked:
    """Questions of several tasks, one after another, and the full model's answers."""

    def __init__(self, model: Model, tasks: Sequence[Task]) -> None:
        self._model = model
        self.questions = [(task, question) for task in tasks for question in task.questions]
        self.full: list[Generation] = []

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.questions)

    def numbers(self, names: Collection[str]) -> list[int]:
        """Which questions are of the tasks with these names."""
        return [i for i, (task, _) in enumerate(self.questions) if task.name in names]

    def pairs(self) -> list[tuple[Question, Generation]]:
        """The questions with the full model's answers."""
        return [(q, full) for (_, q), full in zip(self.questions, self.full, strict=True)]

    def answer(self, journal: Journal, tick: Callable[[], None]) -> None:
        """Let the full model answer all that it has not answered in ``journal``; ``UserError`` for
        a row there that is no answer."""
        done = {(row["task"], row["question"]): row for row in journal.rows}
        keys = [(task.name, question.prompt) for task, question in self.questions]
        missing = [i for i, key in enumerate(keys) if key not in done]
        for _ in range(self.n - len(missing)):
            tick()
        missing.sort(key=lambda i: (self.questions[i][0].name, len(self.questions[i][1].prompt)))
        for begin in range(0, len(missing), _BATCH):
            batch = missing[begin : begin + _BATCH]
            made = self.decode(batch, None)
            new = [{"task": keys[i][0], "question": keys[i][1], **asdict(made[i])} for i in batch]
            journal.add(new)
            done |= {(row["task"], row["question"]): row for row in new}
            for _ in batch:
                tick()
        self.full = [_answer(self._model.backbone, done[key], journal) for key in keys]

    def decode(self, numbers: Sequence[int], policy: ExitPolicy | None) -> dict[int, Generation]:
        """The answers to some questions, by their numbers, decoded in batches."""
        by_task: dict[str, list[int]] = {}
        for i in numbers:
            by_task.setdefault(self.questions[i][0].name, []).append(i)
        found: dict[int, Generation] = {}
        for own in by_task.values():
            task = self.questions[own[0]][0]
            part = replace(task, questions=tuple(self.questions[i][1] for i in own))
            found |= zip(own, answer_in_batches(self._model, [part], policy, _BATCH), strict=True)
        return found


def _answer(model: Backbone, row: Row, journal: Journal) -> Generation:
    try:
        answer = Generation.from_json(row)
        if answer.layers != model.depth or max(answer.ids, default=0) >= model.config.vocab:
            raise ValueError("an answer of another model")
        return answer
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise UserError(
            f"{journal.path}: the row of {str(row['question'])[:60]!r} is no answer; "
            "remove its line and run again"
        ) from None


class Comparison:
    """Answers with a policy beside the full model's."""

    def __init__(self, model: Model, asked: Asked, policy: ExitPolicy) -> None:
        self._asked = asked
        self._policy = policy
        self._pricing = Pricing(model.backbone.config, policy, None)

    def compare(self, replay: Replay | None) -> list[Compared]:
        """All questions; where a ``replay`` tells the answer, it is not decoded."""
        known: list[Generation | None] = [None] * self._asked.n
        agreeing: list[int | None] = [None] * self._asked.n
        if replay is not None:
            replayed = replay.decode(self._policy.thresholds, self._policy.schedule)
            known = [one.generation for one in replayed]
            agreeing = [sum(one.agrees) for one in replayed]
        missing = [i for i, generation in enumerate(known) if generation is None]
        decoded = self._asked.decode(missing, self._policy)
        return [
            self._compared(i, made or decoded[i], made is not None, agreeing[i])
            for i, made in enumerate(known)
        ]

    def _compared(
        self, number: int, early: Generation, replayed: bool, agreeing: int | None
    ) -> Compared:
        asked = self._asked.questions[number]
        full, cost = self._asked.full[number], self._pricing.answer(early)
        return Compared(Answer(*asked, full), Answer(*asked, early), cost, replayed, agreeing)
