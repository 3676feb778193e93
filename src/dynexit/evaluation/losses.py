"""What an early exit may cost an answer, as a loss in [0, 1] that calibration can bound.

Textual losses compare with the full model's answer, as CALM does (Schuster et al. 2022, section 4):
``text`` is 1 - ROUGE-L, ``tokens`` the share of positions with another token, ``answer`` 1 unless
all tokens are the same. A task's ``f1`` or ``em`` gives max(0, the full model's score - the
answer's), a drop. Cut at 0 it stays in [0, 1] and a gain on one question pays for no loss on
another; so it bounds the drop of the mean too. Shifted to (1 + drop) / 2 it would stay in [0, 1] as
well, but hundreds of equal answers would then leave a loss of one half, and no small risk could
be certified. Equal answers have loss 0 in every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

from dynexit.errors import UserError
from dynexit.evaluation.runner import Answer
from dynexit.evaluation.tasks.task import Task


@dataclass(frozen=True)
class Loss:
    """A kind of loss; ``binary`` where it can only be 0 or 1. ``differing`` takes the full model's
    answer and another one with other tokens."""

    name: str
    binary: bool
    differing: Callable[[Answer, Answer], float]

    def __call__(self, full: Answer, early: Answer) -> float:
        """The loss of ``early`` against the full model's answer to the same question."""
        if full.generation.ids == early.generation.ids:
            return 0.0
        return min(1.0, max(0.0, self.differing(full, early)))


def rouge_l(reference: str, text: str) -> float:
    """ROUGE-L (F1 over the longest common subsequence of words) in [0, 1]; 1 for equal texts.

    Words are runs of a-z and 0-9 in lower case, without stemming, as in Google's ``rouge_score``;
    texts in other scripts have none, and differ wholly unless they are equal.
    """
    if reference == text:
        return 1.0
    return float(_scorer().score(reference, text)["rougeL"].fmeasure)


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"])


def _text(full: Answer, early: Answer) -> float:
    return 1.0 - rouge_l(full.generation.text, early.generation.text)


def _tokens(full: Answer, early: Answer) -> float:
    """Over the longer answer, so that what is missing or too much counts as differing."""
    a, b = full.generation.ids, early.generation.ids
    same = sum(x == y for x, y in zip(a, b, strict=False))
    return 1.0 - same / max(len(a), len(b))


TEXTUAL = {
    "text": Loss("text", False, _text),
    "tokens": Loss("tokens", False, _tokens),
    "answer": Loss("answer", True, lambda full, early: 1.0),
}

METRICS = ("f1", "em")  # shares in [0, 1], not always 0 or 1: CoQA's are means over references


def loss_of(kind: str, tasks: Sequence[Task]) -> Loss:
    """The loss of a name: one of ``TEXTUAL``, or of ``METRICS`` if all ``tasks`` have it."""
    for task in tasks:
        if task.weigh is not None:
            raise UserError(f"task {task.name} is multiple choice; calibrate on decoded answers")
    if kind in TEXTUAL:
        return TEXTUAL[kind]
    scored = [set(task.score("", question)) for task in tasks for question in task.questions[:1]]
    shared = [name for name in METRICS if scored and all(name in names for names in scored)]
    if kind not in shared:
        known = ", ".join([*TEXTUAL, *shared])
        raise UserError(f"--risk-kind {kind!r} is not known for these tasks; choose from {known}")
    return Loss(kind, False, lambda full, early: _score(full, kind) - _score(early, kind))


def _score(answer: Answer, metric: str) -> float:
    return float(answer.task.score(answer.generation.text, answer.question)[metric])
