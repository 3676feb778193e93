"""From answers to the numbers of a table row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dynexit.evaluation.consistency import Consistency, consistency
from dynexit.evaluation.runner import Answer
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import decoding_cost
from dynexit.models.config import BackboneConfig


@dataclass(frozen=True)
class Measurement:
    """One way of decoding against the full model, on the same questions in the same run.

    ``metrics`` and ``full_metrics`` are means over questions; ``levels`` the metrics by level.
    Savings are shares in [0, 1] of the full model's layers, FLOPs and bytes a token; ``speedup``
    is the full model's decoding seconds over this way's.
    """

    n: int
    metrics: dict[str, float]
    full_metrics: dict[str, float]
    levels: dict[int, dict[str, float]]
    consistency: Consistency
    layer_saving: float
    flop_saving: float
    byte_saving: float
    speedup: float
    tokens_per_second: float


def measure(
    full: Sequence[Answer],
    early: Sequence[Answer],
    config: BackboneConfig,
    policy: ExitPolicy | None,
) -> Measurement:
    """Compare answers, question by question, with the full model's."""
    tokens = sum(len(a.generation.tokens) for a in early)
    cost = decoding_cost([a.generation for a in early], config, policy)
    seconds = sum(a.generation.seconds for a in early)
    full_seconds = sum(a.generation.seconds for a in full)
    return Measurement(
        n=len(early),
        metrics=_means([_scores(a) for a in early]),
        full_metrics=_means([_scores(a) for a in full]),
        levels=_by_level(early),
        consistency=consistency(
            [a.generation.ids for a in full], [a.generation.ids for a in early]
        ),
        layer_saving=cost.layer_saving,
        flop_saving=cost.flop_saving,
        byte_saving=cost.byte_saving,
        speedup=full_seconds / seconds if seconds > 0 else 1.0,
        tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
    )


def _scores(answer: Answer) -> dict[str, float]:
    return dict(answer.task.score(answer.generation.text, answer.question))


def _means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of the metrics that every answer has."""
    if not scores:
        return {}
    shared = [name for name in scores[0] if all(name in s for s in scores)]
    return {name: fmean(s[name] for s in scores) for name in shared}


def _by_level(answers: Sequence[Answer]) -> dict[int, dict[str, float]]:
    levels = sorted({a.question.level for a in answers} - {0})
    return {
        level: _means([_scores(a) for a in answers if a.question.level == level])
        for level in levels
    }
