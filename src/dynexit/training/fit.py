"""Fitting a judge to a store: binary cross-entropy at every exit, as in DYNAMAX.

The loss of exit e (from 0) of E has the weight 1 - e / E, a linearly decaying function of its
position. Labels are balanced by weighting positives with w = negatives / positives, within limits;
the log odds are fitted with log w taken off again, so that scores stay probabilities: of tokens
with score 0.9, nine in ten may leave. The paper gives no optimiser; this is AdamW with a cosine
decay, ended early when the validation AUROC stops rising.

A batch is fitted in pieces of a few texts, whose gradients are added up in their order. Workers
take the pieces in turn and all add all gradients, so one worker and many come to the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from dynexit.exits.judges import TrainedJudge
from dynexit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from dynexit.training.match import visits
from dynexit.training.measure import auroc, validate
from dynexit.training.progress import progress_bar
from dynexit.training.recipe import ExitRecipe
from dynexit.training.store import TRAINING, Batch, Store
from dynexit.workers import ALONE, Workers

LIMITS = (0.5, 0.95)  # thresholds by which tokens leave during training, drawn for each sequence
VALIDATION_LIMIT = 0.8
BALANCE = 10.0  # w is kept within 1 / BALANCE and BALANCE
STALE = 3  # epochs without a better validation AUROC before the end
BATCH_TOKENS = 8192
PIECE = 16  # texts whose gradient is taken together


@dataclass(frozen=True)
class _Objective:
    """What an exit's log odds are fitted to: label ``rank < top_k``, balance ``w``, loss weight."""

    top_k: int
    balance: tuple[float, ...]

    def loss(self, exit: int, logits: Tensor, ranks: Tensor) -> Tensor:
        """The sum over tokens."""
        w = self.balance[exit]
        labels = (ranks < self.top_k).to(logits)
        loss = F.binary_cross_entropy_with_logits(
            logits + math.log(w), labels, pos_weight=logits.new_tensor(w), reduction="sum"
        )
        return loss * (1.0 - exit / len(self.balance))


def fit(
    judge: TrainedJudge,
    store: Store,
    recipe: ExitRecipe,
    checkpoint: Path,
    workers: Workers = ALONE,
) -> None:
    """Train ``judge`` in place and leave it with its best weights.

    The state after each epoch is kept in ``checkpoint``, from which an interrupted run goes on to
    the same end.
    """
    objective = _Objective(recipe.top_k, _balances(store, recipe.top_k))
    for exit, w in enumerate(objective.balance):
        judge.start_at(exit, -math.log(w))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=recipe.rate, weight_decay=0.01)
    progress = load_checkpoint(checkpoint, judge, optimizer) or Progress(best=_copy(judge))
    with progress_bar(f"fitting {judge.kind}", recipe.epochs, shown=workers.first) as advance:
        advance(progress.epoch, "")
        while progress.epoch < recipe.epochs and progress.stale < STALE:
            _epoch(judge, store, recipe, objective, optimizer, workers, progress.epoch)
            progress = progress.after(_quality(judge, store, recipe.top_k, workers), _copy(judge))
            if workers.first:
                save_checkpoint(checkpoint, judge, optimizer, progress)
            advance(1, f"AUROC {progress.quality:.3f}")
    judge.load_state_dict(progress.best)
    judge.eval()


def _epoch(
    judge: TrainedJudge,
    store: Store,
    recipe: ExitRecipe,
    objective: _Objective,
    optimizer: torch.optim.Optimizer,
    workers: Workers,
    epoch: int,
) -> None:
    judge.train()
    # all chance of an epoch comes from its number, so a resumed run needs no saved generator
    seed = recipe.seed * 1_000_003 + epoch
    rng = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
    for batch in store.batches(
        TRAINING, recipe.batch, BATCH_TOKENS, prompts=judge.recurrent, seed=seed
    ):
        _take_gradients(judge, batch, objective, _thresholds(judge, batch, recipe, rng), workers)
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()


def _thresholds(
    judge: TrainedJudge, batch: Batch, recipe: ExitRecipe, rng: torch.Generator
) -> Tensor | None:
    """One threshold per sequence, the same at all exits [B, exits]; None without the match."""
    if not recipe.match:
        return None
    low, high = LIMITS
    drawn = low + (high - low) * torch.rand(len(batch.valid), 1, generator=rng)
    return drawn.expand(-1, len(judge.layers))


def _take_gradients(
    judge: TrainedJudge,
    batch: Batch,
    objective: _Objective,
    thresholds: Tensor | None,
    workers: Workers,
) -> None:
    """Set the gradient of the mean loss of all tokens that come to each exit."""
    pieces = list(enumerate(batch.pieces(PIECE)))
    mine = []
    for n, piece in workers.share(pieces):
        limits = None if thresholds is None else thresholds[n * PIECE : (n + 1) * PIECE]
        mine.append(_losses(judge, piece, objective, limits))
    counts = torch.zeros(len(judge.layers), dtype=torch.long)
    for _, visited in mine:
        counts += visited
    shares = 1.0 / workers.total(counts).clamp(min=1)
    parameters = list(judge.parameters())
    total = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    for round in range(-(-len(pieces) // workers.count)):
        mean = (mine[round][0] * shares.to(total)).sum() if round < len(mine) else None
        for gradient in workers.each(_gradient(mean, parameters, total)):
            total += gradient
    for parameter, part in zip(
        parameters, torch.split(total, [p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter)


def _losses(
    judge: TrainedJudge, batch: Batch, objective: _Objective, thresholds: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The sum of the losses at each exit, and how many tokens came there, both [exits]."""
    losses = list(next(judge.parameters()).new_zeros(len(judge.layers)))
    counts = torch.zeros(len(judge.layers), dtype=torch.long)
    for visit in visits(judge, batch, thresholds):
        ranks = visit.ranks.to(visit.logits.device)
        losses[visit.exit] = objective.loss(visit.exit, visit.logits, ranks)
        counts[visit.exit] = len(ranks)
    return torch.stack(losses), counts


def _gradient(loss: Tensor | None, parameters: list[Parameter], like: Tensor) -> Tensor:
    """The gradient of all parameters in one row; zeros where there is nothing to learn from."""
    if loss is None or not loss.requires_grad:
        return torch.zeros_like(like)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def _balances(store: Store, top_k: int) -> tuple[float, ...]:
    """Negatives over positives at each exit, over all tokens that decoding judges."""
    right = torch.zeros(len(store.layers), dtype=torch.long)
    judged = 0
    for index in range(store.shards):
        shard = store.shard(index, states=False)
        judged += int(shard.judged.sum())
        right += (shard.ranks[:, shard.judged] < top_k).sum(1)
    ratios = (judged - right) / right.clamp(min=1)
    return tuple(ratios.clamp(1 / BALANCE, BALANCE).tolist())


def _quality(judge: TrainedJudge, store: Store, top_k: int, workers: Workers) -> float:
    """The mean AUROC of the exits under one threshold (0.5 where labels are all of one kind)."""
    judge.eval()
    found = validate(judge, store, top_k, [VALIDATION_LIMIT] * len(judge.layers), workers)
    areas = [auroc(scores, labels) for scores, labels in found]
    return sum(0.5 if area is None else area for area in areas) / len(areas)


def _copy(judge: TrainedJudge) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in judge.state_dict().items()}
