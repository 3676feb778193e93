"""What the reference pair is trained for: the answers, read at the last layer and on the way.

Besides the last layer, each step reads the answers at a few layers drawn at random through the
same norm and head (the early-exit loss of LayerSkip, Elhoushi et al. 2024, with sampled exits in
place of its curriculum), and drops layers with a rate that grows with depth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models.backbone import Backbone
from dynexit.reference.recipe.batches import Batch

EXITS_PER_STEP = 2
EXIT_WEIGHT = 0.25
CONTEXT_SHARE = 0.2
CONTEXT_WEIGHT = 0.3
LAYER_DROPOUT = 0.1


def loss_of(backbone: Backbone, batch: Batch, rng: random.Random, dropout: bool) -> Tensor:
    """Loss of one batch: answers at the last layer, some context, and answers at drawn exits."""
    depth, device = backbone.depth, backbone.device
    exits = set(rng.sample(range(depth // 4, depth), EXITS_PER_STEP))
    rows, width = batch.ids.shape
    place = backbone.place([0] * rows, [width] * rows)
    # chosen on the host: counting them on a GPU would wait for all that was asked of it before
    answers, context = (
        _Read.of(batch, at, device) for at in (batch.target, _some_context(batch, rng))
    )
    loss = torch.zeros((), device=device)
    with torch.autocast(device.type, torch.bfloat16):
        hidden = backbone.embed(_sent(batch.ids, device))
        for index in range(depth):
            if index in exits:
                loss = loss + EXIT_WEIGHT * answers.cross_entropy(backbone, hidden)
            dropped = dropout and rng.random() < LAYER_DROPOUT * index / (depth - 1)
            if not dropped:
                hidden = backbone.run(hidden, None, index, index + 1, place)
        loss = loss + answers.cross_entropy(backbone, hidden)
        return loss + CONTEXT_WEIGHT * context.cross_entropy(backbone, hidden)


def answers_right(backbone: Backbone, batch: Batch) -> tuple[int, int]:
    """How many answers have every token most probable, and how many answers there are.

    Under greedy decoding that is the same as giving exactly this answer.
    """
    with torch.no_grad():
        right = backbone(batch.ids).argmax(-1) == batch.following
    begins = batch.target & ~F.pad(batch.target[:, :-1], (1, 0))
    number = begins.cumsum(1) * batch.target + batch.target.shape[1] * batch.row_index
    wrong = torch.unique(number[batch.target & ~right])
    answered = int(begins.sum())
    return answered - len(wrong), answered


@dataclass(frozen=True)
class _Read:
    """Where logits are read (row and column of each [n]), and the ids that follow there [n]."""

    at: tuple[Tensor, ...]
    following: Tensor

    @classmethod
    def of(cls, batch: Batch, where: Tensor, device: torch.device) -> _Read:
        at = where.nonzero(as_tuple=True)
        return cls(tuple(_sent(one, device) for one in at), _sent(batch.following[at], device))

    def cross_entropy(self, backbone: Backbone, hidden: Tensor) -> Tensor:
        return F.cross_entropy(backbone.readout(hidden[self.at]).float(), self.following)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On ``device``, without waiting for what a GPU was asked before."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _some_context(batch: Batch, rng: random.Random) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    drawn = torch.rand(batch.ids.shape, generator=generator) < CONTEXT_SHARE
    return drawn & batch.real & ~batch.target
