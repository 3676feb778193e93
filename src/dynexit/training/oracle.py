"""The full model as the oracle: its own answers, and where it ranks what an exit would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynexit.models import Backbone

MAX_RANK = 255
_LOGITS = 1 << 24  # numbers in one readout of many tokens (64 MB in fp32)


@torch.inference_mode()
def greedy_answers(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    longest: int,
    finished: Callable[[list[int]], bool],
) -> list[list[int]]:
    """The most probable continuation of each prompt at full depth: at least one token, at most
    ``longest``, up to the token with which ``finished(answer)`` is true."""
    answers: list[list[int]] = [[] for _ in prompts]
    lengths = [len(prompt) for prompt in prompts]
    cache = backbone.new_cache(len(prompts), max(lengths) + longest)
    rows = [list(prompt) for prompt in prompts]
    active = list(range(len(prompts)))
    starts = [0] * len(prompts)
    while active:
        place = backbone.place(starts, [len(ids) for ids in rows])
        padded = [ids + [0] * (place.width - len(ids)) for ids in rows]
        hidden = backbone.embed(torch.tensor(padded, device=backbone.device))
        hidden = backbone.run(hidden, cache, 0, backbone.depth, place)
        ends = place.ends - 1
        best = backbone.readout(hidden[torch.arange(len(rows)), ends]).argmax(-1).tolist()
        for row, token in zip(active, best, strict=True):
            answers[row].append(token)
        going = [
            i
            for i, row in enumerate(active)
            if len(answers[row]) < longest and not finished(answers[row])
        ]
        starts = [starts[i] + len(rows[i]) for i in going]
        rows = [[best[i]] for i in going]
        if len(going) < len(active):
            cache.keep(going)
            active = [active[i] for i in going]
    return answers


@torch.inference_mode()
def ranks_of(backbone: Backbone, exits: Sequence[Tensor], last: Tensor) -> Tensor:
    """For states [tokens, hidden] at each exit and after the last layer: the rank of each exit's
    top token among the full model's logits, uint8 [exits, tokens], at most 255.

    Only the token that the full model gives has rank 0; one with an equal logit has rank 1.
    """
    ranks = torch.empty(len(exits), len(last), dtype=torch.uint8)
    chunk = max(1, _LOGITS // backbone.config.vocab)
    for begin in range(0, len(last), chunk):
        at = slice(begin, begin + chunk)
        oracle = backbone.readout(last[at])
        best = oracle.argmax(-1)
        for exit, hidden in enumerate(exits):
            top = backbone.readout(hidden[at]).argmax(-1)
            above = (oracle > oracle.gather(1, top[:, None])).sum(-1)
            rank = torch.where(top == best, 0, above.clamp(1, MAX_RANK))
            ranks[exit, at] = rank.to(torch.uint8).cpu()
    return ranks
