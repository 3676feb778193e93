"""The losses of a model with exits on calibration questions, threshold by threshold.

With recomputed states the full model's answers are replayed (see ``replay``): an answer that stays
the same has loss 0 and costs no decoding, only the others are decoded. Other state policies decode
every question. Greedy decoding in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dynexit.evaluation.counting import Counting
from dynexit.evaluation.kept_answers import KeptAnswers
from dynexit.evaluation.losses import Loss
from dynexit.evaluation.replay import Recording, Replay, record, replays
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.recompute import Recompute
from dynexit.inference.generation import Generation
from dynexit.models.loading import Model

FULL = "full"


class Curve(Protocol):
    """What the same questions lose at any threshold, whatever that is a threshold of."""

    def losses(self, loss: Loss, threshold: float) -> list[float]:
        """The loss of each question, in order."""

    def generations(self, threshold: float) -> list[Generation]:
        """The answers at a threshold."""

    def at(self, threshold: float) -> ExitPolicy:
        """The exits at a threshold."""


class RiskCurve:
    """Losses of the same questions at any threshold (one number for all exits of ``policy``).

    For ``journal`` see ``KeptAnswers``.
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
        self._answers = KeptAnswers(model, tasks, journal)
        self._found: dict[float, list[Generation]] = {}
        with counting(f"{model.name}: full answers", self.n) as tick:
            self.full = self._answers.decode(FULL, None, range(self.n), tick)
        exact = isinstance(policy.state, Recompute)
        self._replay = self._recorded(counting) if exact else None

    @property
    def n(self) -> int:
        """Number of questions."""
        return self._answers.n

    def losses(self, loss: Loss, threshold: float) -> list[float]:
        """The loss of each question, in order."""
        return self._answers.losses(loss, self.full, self.generations(threshold))

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
            unknown = [number for number, answer in enumerate(known) if answer is None]
            decoded = iter(self._answers.decode(f"{threshold!r}", policy, unknown))
            self._found[threshold] = [a if a is not None else next(decoded) for a in known]
        return self._found[threshold]

    def _recorded(self, counting: Counting) -> Replay:
        with counting(f"{self.model.name}: recording", self.n) as tick:

            def recorded(question: Question, answer: Generation) -> Recording:
                tick()
                layers, translators = self.policy.layers, self.policy.translators
                return record(self.model, question.prompt, answer, layers, translators)

            pairs = zip(self._answers.asked, self.full, strict=True)
            recordings = (recorded(question, answer) for (_, question), answer in pairs)
            return replays([self.policy.judge], recordings)[0]
