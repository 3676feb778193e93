"""Answers to the questions that a calibration asks, each decoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.jsonl import append_rows, read_rows
from dynexit.evaluation.losses import Loss
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.task import Task
from dynexit.evaluation.ways import Way
from dynexit.inference.generation import Generation
from dynexit.models.loading import Model

BATCH = 32


def _kept(
    row: Mapping[str, Any], number: int, journal: Path | None
) -> tuple[tuple[str, int], Generation]:
    """Way and question of a row, and the answer."""
    try:
        return (str(row["way"]), int(row["question"])), Generation.from_json(row)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise UserError(
            f"{journal}, row {number} is no answer of a calibration; remove the file and run again"
        ) from None


class KeptAnswers:
    """The questions of all ``tasks``, numbered from 0, and their answers by the name of a way.

    With a ``journal`` file every decoded answer is kept as it comes, so that the same work goes on
    after an interruption; its name must tell all that decides the answers. Greedy decoding in
    batches.
    """

    def __init__(self, model: Model, tasks: Sequence[Task], journal: Path | None = None) -> None:
        self._model = model
        self.asked = [(task, question) for task in tasks for question in task.questions]
        self._journal = journal
        rows = [] if journal is None else read_rows(journal)
        self._kept = dict(_kept(row, n, journal) for n, row in enumerate(rows, 1))

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.asked)

    def losses(
        self, loss: Loss, full: Sequence[Generation], other: Sequence[Generation]
    ) -> list[float]:
        """The loss of each question, in order."""
        return [
            loss(Answer(*asked, a), Answer(*asked, b))
            for asked, a, b in zip(self.asked, full, other, strict=True)
        ]

    def decode(
        self,
        name: str,
        way: Way,
        numbers: Sequence[int],
        tick: Callable[[], None] = lambda: None,
    ) -> list[Generation]:
        """Answers to the questions of these numbers, from the journal or decoded now. ``tick`` is
        called for each that is decoded."""
        missing = [number for number in numbers if (name, number) not in self._kept]
        for task, batch in self._batches(missing):
            part = replace(task, questions=tuple(self.asked[number][1] for number in batch))
            answers = answer_in_batches(self._model, [part], way, BATCH)
            self._keep(name, dict(zip(batch, answers, strict=True)))
            for _ in batch:
                tick()
        return [self._kept[name, number] for number in numbers]

    def _batches(self, numbers: Sequence[int]) -> list[tuple[Task, list[int]]]:
        """Batches of one task each, as a task has its own end of an answer, of similar lengths."""
        batches: list[tuple[Task, list[int]]] = []
        by_task: dict[str, list[int]] = {}
        for number in sorted(numbers, key=lambda number: len(self.asked[number][1].prompt)):
            by_task.setdefault(self.asked[number][0].name, []).append(number)
        for number in chain.from_iterable(by_task.values()):
            task = self.asked[number][0]
            if not batches or batches[-1][0] is not task or len(batches[-1][1]) == BATCH:
                batches.append((task, []))
            batches[-1][1].append(number)
        return batches

    def _keep(self, name: str, answers: Mapping[int, Generation]) -> None:
        self._kept |= {(name, number): answer for number, answer in answers.items()}
        if self._journal is not None:
            rows = [{"way": name, "question": i, **asdict(a)} for i, a in answers.items()]
            append_rows(self._journal, rows)
