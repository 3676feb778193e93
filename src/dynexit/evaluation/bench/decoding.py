"""Timed decoding: what the suites have in common."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dynexit.evaluation.bench.judging import judge_of
from dynexit.evaluation.bench.subject import Subject
from dynexit.exits.judge import Judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.models.backbone import Backbone

PROMPT = 16  # tokens before the first that is timed
NEVER = 2.0  # a threshold that no score reaches
WARM_UP = 2  # steps before the clock starts: a new cache's pages are touched, kernels are chosen


def leave_at(subject: Subject, layer: int, state: str, kind: str = "fixed") -> ExitPolicy | None:
    """Every token leaves after ``layer`` layers, whatever a judge of that kind says, whose check is
    made all the same. None at full depth."""
    if layer == subject.config.depth:
        return None
    return ExitPolicy(judge_of(subject, kind, (layer,)), (0.0,), skipped_state(state))


def never_leave(judge: Judge, state: str = "recompute") -> ExitPolicy:
    """Every exit is checked and none is taken."""
    return ExitPolicy(judge, (NEVER,) * len(judge.layers), skipped_state(state))


def seconds_per_step(
    backbone: Backbone,
    policy: ExitPolicy | None,
    steps: int,
    rows: int = 1,
    prompt: int = PROMPT,
) -> float:
    """Mean seconds of a greedy step of all rows, after a prompt that is read and not timed."""
    decoder = Decoder(backbone, rows, prompt + WARM_UP + steps, policy)
    vocab = backbone.config.vocab
    decoder.prefill([[(7 * row + at) % vocab for at in range(prompt)] for row in range(rows)])
    return timed_steps(decoder, steps, rows)


def timed_steps(decoder: Decoder, steps: int, rows: int = 1) -> float:
    """Mean seconds of a greedy step, after ``WARM_UP`` that are not timed.

    The mean and not the median, so that work put off to some later step counts too.
    """
    ids = list(range(1, rows + 1))
    for _ in range(WARM_UP):
        ids = _next(decoder, ids)
    begin = time.perf_counter()
    for _ in range(steps):
        ids = _next(decoder, ids)
    return (time.perf_counter() - begin) / steps


def _next(decoder: Decoder, ids: Sequence[int]) -> list[int]:
    chosen: list[int] = decoder.step(ids).logits.max(-1).indices.tolist()
    return chosen
