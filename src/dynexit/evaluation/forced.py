"""Whether exits say what the full model says, token by token along the full model's own answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dynexit.evaluation.runner import Answer
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.likelihood import log_likelihood_ids
from dynexit.inference.prompts import encode_prompt
from dynexit.models.loading import Model
from dynexit.workers import ALONE, Workers


def forced_agreement(
    model: Model,
    full: Sequence[Answer],
    policy: ExitPolicy,
    batch: int = 16,
    tick: Callable[[], None] = lambda: None,
    workers: Workers = ALONE,
) -> list[int]:
    """Of each of the full model's answers, how many tokens are also the best at the exit taken.

    Every step is fed the full model's token (teacher forcing), so one wrong token spoils no other,
    and the texts never part; state and judge are those of decoding with ``policy``. ``workers``
    share the answers; ``tick`` is called after each. Answers must be to ``question.prompt``, not to
    the model's own words.
    """
    mine = workers.share(range(len(full)))
    pairs = [
        (encode_prompt(model, one.question.prompt), one.generation.ids)
        for one in (full[number] for number in mine)
    ]
    agreeing = torch.zeros(len(full), dtype=torch.long)
    found = log_likelihood_ids(model, pairs, policy, batch, tick)
    for number, one in zip(mine, found, strict=True):
        agreeing[number] = sum(one.greedy)
    counts: list[int] = workers.total(agreeing).tolist()
    return counts
