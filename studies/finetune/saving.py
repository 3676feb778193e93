"""What exits would save on texts that are followed token by token, with entropy for a judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.evaluation.thresholds import smallest_consistent
from dynexit.exits.judge import Evidence
from dynexit.exits.judges import build_judge
from dynexit.models.backbone import Backbone
from dynexit.training.finetune.curve import READ_AT_ONCE, exit_states
from dynexit.training.finetune.texts import Rows


@dataclass(frozen=True)
class Seen:
    """Of n tokens: ``scores`` [n, exits], and ``same`` [n, exits] where an exit's best token is the
    last layer's."""

    scores: Tensor
    same: Tensor

    def decode(self, threshold: float, layers: Sequence[int], depth: int) -> tuple[float, float]:
        """Share of tokens that are the last layer's, and share of layers saved, where each token
        leaves at the first exit whose score is at least ``threshold``."""
        leaves = self.scores >= threshold
        stays = torch.zeros_like(leaves[:, :1])
        first = torch.cat([leaves, ~stays], 1).int().argmax(1)  # beyond the exits: the last layer
        same = torch.cat([self.same, ~stays], 1).gather(1, first[:, None])
        run = torch.tensor([*layers, depth])[first]
        return float(same.float().mean()), 1.0 - float(run.float().mean()) / depth


@torch.no_grad()
def see(backbone: Backbone, batches: Iterable[Rows], layers: Sequence[int]) -> Seen:
    """The learned tokens of all batches at exits after ``layers``, each in the full model's
    states."""
    judge = build_judge("entropy", layers, backbone.config.hidden)
    scores, same = [], []
    for rows in batches:
        after = enumerate(exit_states(backbone, rows), start=1)
        states = [hidden for layer, hidden in after if layer in {*layers, backbone.depth}]
        for pieces in zip(*(torch.split(one, READ_AT_ONCE) for one in states), strict=True):
            found = [Evidence(e, h, lambda _, h: backbone.readout(h)) for e, h in enumerate(pieces)]
            best = torch.stack([evidence.logits().argmax(-1) for evidence in found], 1)
            same.append(best[:, :-1] == best[:, -1:])
            state = judge.new_state(len(best))
            judged = [judge.score(e, ev, state, None) for e, ev in enumerate(found[:-1])]
            scores.append(torch.stack(judged, 1))
    return Seen(torch.cat(scores), torch.cat(same))


def saving(
    backbone: Backbone, halves: Sequence[Iterable[Rows]], layers: Sequence[int], kept: float
) -> dict[str, float | None]:
    """The lowest threshold at which the share ``kept`` of the first half's tokens are the last
    layer's, and what it gives on the other half."""
    depth = backbone.depth
    chosen, told = (see(backbone, half, layers) for half in halves)
    threshold = smallest_consistent(lambda t: chosen.decode(t, layers, depth)[0], kept)
    same, saved = (1.0, 0.0) if threshold is None else told.decode(threshold, layers, depth)
    return {"threshold": threshold, "consistency": same, "layer_saving": saved}
