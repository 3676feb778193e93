"""How well a judge sorts the tokens that come to it, and the thresholds that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dynexit.exits.exit_set import ExitMetrics
from dynexit.exits.judges import TrainedJudge
from dynexit.training.match import visits
from dynexit.training.store import VALIDATION, Store
from dynexit.workers import ALONE, Workers

NEVER = 1.01
"""A threshold no score reaches: nothing leaves at this exit."""

_FEWEST = 20  # tokens that must be above a threshold before their share of right ones counts
_BATCH, _BATCH_TOKENS = 64, 8192

Scores = NDArray[np.float32]
Labels = NDArray[np.bool_]


def auroc(scores: Scores, labels: Labels) -> float | None:
    """Area under the ROC curve: the chance that a token which may leave scores higher than one that
    may not, ties counting half (Mann-Whitney). None where one of the kinds is absent."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank, from 1, of equal scores
    above = ranks[inverse][labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def threshold_for(scores: Scores, labels: Labels, precision: float) -> float:
    """The lowest threshold at which at least ``precision`` of the tokens that leave may, or
    ``NEVER``. So few tokens that their share says nothing set no threshold."""
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order], np.cumsum(labels[order])
    share = right / np.arange(1, len(order) + 1)
    ends = np.append(ordered[1:] != ordered[:-1], True)  # equal scores leave together
    fine = np.flatnonzero(ends & (share >= precision) & (np.arange(len(order)) + 1 >= _FEWEST))
    return float(ordered[fine[-1]]) if len(fine) else NEVER


def validate(
    judge: TrainedJudge,
    store: Store,
    top_k: int,
    thresholds: Sequence[float],
    workers: Workers = ALONE,
) -> list[tuple[Scores, Labels]]:
    """Scores and labels of the validation tokens that come to each exit, when tokens leave by
    ``thresholds`` as in decoding. The tokens of all workers are there, in an order of theirs."""
    found: list[list[tuple[Scores, Labels]]] = [[] for _ in judge.layers]
    limits = torch.tensor(thresholds, dtype=torch.float32)
    with torch.inference_mode():
        for batch in store.batches(
            VALIDATION, _BATCH, _BATCH_TOKENS, prompts=judge.recurrent, seed=0, workers=workers
        ):
            rows = limits.expand(len(batch.valid), -1)
            for visit in visits(judge, batch, rows):
                scores = torch.sigmoid(visit.logits).float().cpu().numpy()
                found[visit.exit].append((scores, (visit.ranks < top_k).numpy()))
    return [_joined(parts, workers) for parts in found]


def metrics(layer: int, scores: Scores, labels: Labels) -> ExitMetrics:
    """The metrics of one exit; all zero where no token comes to it."""
    if not len(labels):
        return ExitMetrics(layer, 0.0, None, 0.0)
    accuracy = float(((scores >= 0.5) == labels).mean())
    return ExitMetrics(layer, float(labels.mean()), auroc(scores, labels), accuracy)


def settle(
    judge: TrainedJudge,
    store: Store,
    top_k: int,
    precision: float,
    workers: Workers = ALONE,
) -> tuple[tuple[float, ...], tuple[ExitMetrics, ...]]:
    """Default thresholds, and metrics under them. Exits are settled in order, as which tokens come
    to one depends on the thresholds of those before."""
    thresholds: list[float] = []
    measured: list[ExitMetrics] = []
    for exit, layer in enumerate(judge.layers):
        later = [NEVER] * (len(judge.layers) - exit)
        scores, labels = validate(judge, store, top_k, [*thresholds, *later], workers)[exit]
        measured.append(metrics(layer, scores, labels))
        thresholds.append(threshold_for(scores, labels, precision))
    return tuple(thresholds), tuple(measured)


def _joined(parts: list[tuple[Scores, Labels]], workers: Workers) -> tuple[Scores, Labels]:
    scores = np.concatenate([np.empty(0, np.float32), *(s for s, _ in parts)])
    labels = np.concatenate([np.empty(0, np.bool_), *(labels for _, labels in parts)])
    both = (torch.from_numpy(scores), torch.from_numpy(labels).to(torch.uint8))
    scores, labels = (workers.joined(numbers).numpy() for numbers in both)
    return scores, labels.astype(np.bool_)
