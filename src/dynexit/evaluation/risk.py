"""The losses of a model with exits on calibration questions, threshold by threshold.

With recomputed states the full model's answers are replayed (see ``replay``): an answer that stays
the same has loss 0 and costs no decoding, only the others are decoded. Other state policies decode
every question. Greedy decoding in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

from dynexit.evaluation.counting import Counting
from dynexit.evaluation.jsonl import append_rows, read_rows
from dynexit.evaluation.losses import Loss
from dynexit.evaluation.replay import Recording, Replay, record, replays
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.recompute import Recompute
from dynexit.inference.generation import Generation
from dynexit.models.loading import Model

FULL = "full"
BATCH = 32


class RiskCurve:
    """Losses of the same questions at any threshold (one number for all exits of ``policy``).

    With a ``journal`` file every decoded answer is kept as it comes, so that the same work goes on
    after an interruption; its name must tell all that decides the answers.
    """

    def __init__(
        self,
        model: Model,
        tasks: Sequence[Task],
        policy: ExitPolicy,
        counting: Counting,
        journal: Path | None = None,
    ) -> None:
        self.model, self.policy = model, policy
        self._asked = [(task, question) for task in tasks for question in task.questions]
        self._journal = journal
        rows = [] if journal is None else read_rows(journal)
        self._kept = {(row["way"], row["question"]): Generation.from_json(row) for row in rows}
        self._found: dict[float, list[Generation]] = {}
        with counting(f"{model.name}: full answers", len(self._asked)) as tick:
            self.full = self._decode(FULL, None, range(len(self._asked)), tick)
        exact = isinstance(policy.state, Recompute)
        self._replay = self._recorded(counting) if exact else None

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self._asked)

    def losses(self, loss: Loss, threshold: float) -> list[float]:
        """The loss of each question, in order."""
        pairs = zip(self.full, self.generations(threshold), strict=True)
        return [
            loss(Answer(*asked, full), Answer(*asked, early))
            for asked, (full, early) in zip(self._asked, pairs, strict=True)
        ]

    def at(self, threshold: float) -> ExitPolicy:
        """The policy with this threshold at every exit."""
        return replace(self.policy, thresholds=(threshold,) * len(self.policy.layers))

    def generations(self, threshold: float) -> list[Generation]:
        """The answers at a threshold. Those that were replayed have no times."""
        if threshold not in self._found:
            policy = self.at(threshold)
            known: list[Generation | None] = [None] * self.n
            if self._replay is not None:
                replayed = self._replay.decode(policy.thresholds, policy.schedule)
                known = [answer.generation for answer in replayed]
            unknown = [index for index, answer in enumerate(known) if answer is None]
            decoded = iter(self._decode(f"{threshold!r}", policy, unknown, lambda: None))
            self._found[threshold] = [a if a is not None else next(decoded) for a in known]
        return self._found[threshold]

    def _recorded(self, counting: Counting) -> Replay:
        with counting(f"{self.model.name}: recording", self.n) as tick:

            def recorded(question: Question, answer: Generation) -> Recording:
                tick()
                layers, translators = self.policy.layers, self.policy.translators
                return record(self.model, question.prompt, answer, layers, translators)

            pairs = zip(self._asked, self.full, strict=True)
            recordings = (recorded(question, answer) for (_, question), answer in pairs)
            return replays([self.policy.judge], recordings)[0]

    def _decode(
        self,
        way: str,
        policy: ExitPolicy | None,
        indices: Sequence[int],
        tick: Callable[[], None],
    ) -> list[Generation]:
        """Answers to the questions of these indices, from the journal or decoded now."""
        missing = [index for index in indices if (way, index) not in self._kept]
        for task, batch in self._batches(missing):
            part = replace(task, questions=tuple(self._asked[index][1] for index in batch))
            answers = answer_in_batches(self.model, [part], policy, BATCH)
            self._keep(way, dict(zip(batch, answers, strict=True)))
            for _ in batch:
                tick()
        return [self._kept[way, index] for index in indices]

    def _batches(self, indices: Sequence[int]) -> list[tuple[Task, list[int]]]:
        """Batches of one task each, as a task has its own end of an answer, of similar lengths."""
        batches: list[tuple[Task, list[int]]] = []
        by_task: dict[str, list[int]] = {}
        for index in sorted(indices, key=lambda index: len(self._asked[index][1].prompt)):
            by_task.setdefault(self._asked[index][0].name, []).append(index)
        for index in chain.from_iterable(by_task.values()):
            task = self._asked[index][0]
            if not batches or batches[-1][0] is not task or len(batches[-1][1]) == BATCH:
                batches.append((task, []))
            batches[-1][1].append(index)
        return batches

    def _keep(self, way: str, answers: Mapping[int, Generation]) -> None:
        self._kept |= {(way, index): answer for index, answer in answers.items()}
        if self._journal is not None:
            rows = [{"way": way, "question": i, **asdict(a)} for i, a in answers.items()]
            append_rows(self._journal, rows)
