"""From answers to the numbers of a table row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from dynexit.evaluation.consistency import Consistency, compare
from dynexit.evaluation.runner import Answer
from dynexit.evaluation.ways import all_drafting
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import DecodingCost, decoding_cost
from dynexit.inference.generation import Drafting
from dynexit.inference.prompt_cost import prompt_cost
from dynexit.models.config import BackboneConfig


@dataclass(frozen=True)
class Measurement:
    """One way of decoding against the full model, on the same questions in the same run.

    ``metrics`` and ``full_metrics`` are means over questions; ``levels`` the metrics by level.
    Savings are shares in [0, 1] of the full model's layers, FLOPs and bytes a token; ``speedup``
    is the full model's decoding seconds over this way's. ``prompt`` and ``answer`` are the costs
    of both parts, and the full model's, summed over questions; ``drafting`` what drafting and
    verifying took, None where nothing was drafted.
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
    prompt: DecodingCost = field(default_factory=DecodingCost)
    answer: DecodingCost = field(default_factory=DecodingCost)
    drafting: Drafting | None = None


def measure(
    full: Sequence[Answer],
    early: Sequence[Answer],
    config: BackboneConfig,
    policy: ExitPolicy | None,
    agreeing: Sequence[int] | None = None,
) -> Measurement:
    """Compare answers, question by question, with the full model's.

    ``agreeing`` is what ``forced_agreement`` gives for the full model's answers, if asked.
    """
    tokens = sum(len(a.generation.tokens) for a in early)
    cost = decoding_cost([a.generation for a in early], config, policy)
    seconds = sum(a.generation.seconds for a in early)
    full_seconds = sum(a.generation.seconds for a in full)
    return Measurement(
        n=len(early),
        metrics=_means([_scores(a) for a in early]),
        full_metrics=_means([_scores(a) for a in full]),
        levels=_by_level(early),
        consistency=compare([a.generation for a in full], [a.generation for a in early], agreeing),
        layer_saving=cost.layer_saving,
        flop_saving=cost.flop_saving,
        byte_saving=cost.byte_saving,
        speedup=full_seconds / seconds if seconds > 0 else 1.0,
        tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
        prompt=prompt_cost([a.generation.prompt_tokens for a in early], config, policy),
        answer=cost,
        drafting=all_drafting(a.generation.drafting for a in early),
    )


def describe_more(found: Measurement) -> dict[str, Any]:
    """The finer parts of a measurement as JSON: consistency, and costs of prompt and answer apart
    (means a question, in FLOPs and bytes)."""
    seen, parted = found.consistency, found.consistency.divergence
    return {
        "rouge_l": seen.rouge_l,
        "teacher_forced": seen.teacher_forced,
        "divergence": None if parted is None else asdict(parted),
        "consistency_by_layer": dict(seen.by_layer),
        "cost": {
            "prompt": _cost(found.prompt, found.n),
            "answer": _cost(found.answer, found.n),
        },
    }


def _cost(cost: DecodingCost, n: int) -> dict[str, float]:
    parts = {name: getattr(cost, name) for name in ("flops", "bytes", "full_flops", "full_bytes")}
    return {name: value / n if n else 0.0 for name, value in parts.items()}


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
