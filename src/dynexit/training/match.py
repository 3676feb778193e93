"""What a judge sees at each exit while it is trained: what it will see in decoding.

A token that left at layer 8 never comes to layer 16. So in each batch the tokens that would leave,
by the present scores, are taken out of the sequences for every later exit; a recurrent judge then
learns on texts with the gaps it will meet. Prompts have no gaps: they are read at full depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.exits.judges import TrainedJudge
from dynexit.models import Placement
from dynexit.training.store import Batch


@dataclass(frozen=True)
class Visit:
    """The tokens that come to an exit and are judged there, in one row: log odds, ranks of the
    exit's top token."""

    exit: int
    logits: Tensor
    ranks: Tensor


def visits(judge: TrainedJudge, batch: Batch, thresholds: Tensor | None) -> Iterator[Visit]:
    """Judge a batch exit by exit.

    ``thresholds`` [B, exits] are those by which tokens leave; None lets every token come to every
    exit. Exits to which no token comes that is judged there are left out, and so are, for a
    recurrent judge, the sequences in which none does.
    """
    return (_of_texts if judge.recurrent else _of_tokens)(judge, batch, thresholds)


def _of_tokens(judge: TrainedJudge, batch: Batch, thresholds: Tensor | None) -> Iterator[Visit]:
    """For a judge to which no other token matters: all tokens at all exits at once."""
    device = next(judge.parameters()).device
    ranks, rows = batch.ranks[:, batch.judged], batch.judged.nonzero()[:, 0]
    logits = judge.token_logits(batch.hidden[:, batch.judged].to(device))
    there = torch.ones(len(rows), dtype=torch.bool)
    for exit in range(len(judge.layers)):
        if not there.any():
            return
        yield Visit(exit, logits[exit][there.to(device)], ranks[exit][there])
        if thresholds is not None:
            scores = torch.sigmoid(logits[exit].detach()).cpu()
            there = there & (scores < thresholds[rows, exit])  # a mask kept for the gradient


def _of_texts(judge: TrainedJudge, batch: Batch, thresholds: Tensor | None) -> Iterator[Visit]:
    """For a judge that remembers: its texts at each exit are without the tokens that left."""
    device = next(judge.parameters()).device
    there = batch.valid.clone()
    for exit in range(len(judge.layers)):
        rows = (there & batch.judged).any(1).nonzero().squeeze(1)
        if not len(rows):
            return
        order, lengths = _compact(there[rows])
        index = rows[:, None]
        place = Placement([0] * len(rows), lengths.tolist(), device=device)
        logits = judge.logits(exit, batch.hidden[exit][index, order].to(device), place)
        real = torch.arange(order.shape[1]) < lengths[:, None]
        judged = batch.judged[index, order] & real
        yield Visit(exit, logits[judged.to(device)], batch.ranks[exit][index, order][judged])
        if thresholds is not None:
            scores = torch.sigmoid(logits.detach()).cpu()
            left = judged & (scores >= thresholds[rows, exit, None])
            there[index.expand_as(order)[left], order[left]] = False


def _compact(there: Tensor) -> tuple[Tensor, Tensor]:
    """For ``there`` [B, T]: the columns of the tokens that are there, in order and first
    [B, longest], and how many they are [B]."""
    lengths = there.sum(1)
    order = torch.argsort((~there).to(torch.uint8), dim=1, stable=True)
    return order[:, : int(lengths.max())], lengths
