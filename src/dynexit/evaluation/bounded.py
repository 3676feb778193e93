"""The losses of decoding whose drafts are verified only where the judge is unsure of them.

Exits draft at their thresholds. Drafts with scores of at least ``verify_below`` are taken as they
are and the others verified, so the larger that number, the safer: above all scores decoding is
lossless. A calibration of it holds for single answers whatever else is decoded, so the number of
drafts must not follow from what was accepted in other texts: it is fixed (``DRAFTS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dynexit.calibration import VERIFIED
from dynexit.evaluation.certify import SAFEST_FIRST, Calibration
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.kept_answers import KeptAnswers
from dynexit.evaluation.losses import Loss
from dynexit.evaluation.risk import FULL, Curve
from dynexit.evaluation.tasks.task import Task
from dynexit.evaluation.ways import Verified
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.generation import Generation
from dynexit.inference.speculative.settings import Lossless
from dynexit.models.loading import Model

DRAFTS = Lossless(adapt=False)


class BoundedCalibration(Calibration):
    """What is certified is ``verify_below``; the thresholds of ``policy`` are those of drafting."""

    @property
    def state(self) -> str:
        return VERIFIED

    @property
    def candidates(self) -> tuple[float, ...]:
        """Below every draft's score all are alike."""
        least = min(self.policy.thresholds)
        return tuple(below for below in SAFEST_FIRST if below > least)

    def curve(self, counting: Counting, journal: Path | None) -> Curve:
        return BoundedCurve(self.model, self.tasks, self.policy, counting, journal)

    def exits(self) -> list[Any]:
        return [*super().exits(), self.policy.thresholds, asdict(DRAFTS)]


class BoundedCurve:
    """Losses of the same questions at any ``verify_below``; ``policy`` has the thresholds of
    drafting.

    Asked for from the safest on, answers in which nothing changes are not decoded again. For
    ``journal`` see ``KeptAnswers``.
    """

    def __init__(
        self,
        model: Model,
        tasks: Sequence[Task],
        policy: ExitPolicy,
        counting: Counting,
        journal: Path | None = None,
    ) -> None:
        self.policy = policy
        self._answers = KeptAnswers(model, tasks, journal)
        self._found: dict[float, list[Generation]] = {}
        with counting(f"{model.name}: full answers", self.n) as tick:
            self.full = self._answers.decode(FULL, None, range(self.n), tick)

    @property
    def n(self) -> int:
        """Number of questions."""
        return self._answers.n

    def losses(self, loss: Loss, below: float) -> list[float]:
        """The loss of each question, in order."""
        return self._answers.losses(loss, self.full, self.generations(below))

    def at(self, below: float) -> ExitPolicy:
        """Drafts are made alike whatever is verified."""
        return self.policy

    def generations(self, below: float) -> list[Generation]:
        """The answers where drafts with scores below this are verified."""
        if below not in self._found:
            same = self._unchanged(below)
            changed = [number for number in range(self.n) if number not in same]
            way = Verified(self.policy, replace(DRAFTS, verify_below=below))
            decoded = self._answers.decode(f"below {below!r}", way, changed)
            made = same | dict(zip(changed, decoded, strict=True))
            self._found[below] = [made[number] for number in range(self.n)]
        return self._found[below]

    def _unchanged(self, below: float) -> dict[int, Generation]:
        """By number, the answers of the next safer way that are the same."""
        safer = min((known for known in self._found if known > below), default=None)
        if safer is None:
            return {}
        answers = enumerate(self._found[safer])
        return {number: a for number, a in answers if unchanged(a, safer, below)}


def unchanged(answer: Generation, safer: float, below: float) -> bool:
    """Whether an answer with ``verify_below`` ``safer`` would be the same with a smaller one.

    It is where no draft's score lies between them. The scores of drafts that fell are not known,
    so an answer with any may change.
    """
    assert answer.drafting is not None
    drafts = [token.score for token in answer.tokens if token.exit_layer < answer.layers]
    if len(drafts) < answer.drafting.drafts:
        return False
    return not any(score is not None and below <= score < safer for score in drafts)
