"""The loss of a step: cross-entropy after the last layer and some before, with dropped layers.

Every exit is read by the model's own norm and head, and a row skips a layer as if that were the
identity (LayerSkip, Elhoushi et al. 2024, section 4.1). Mamba's layers are dropped like any other.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dynexit.models.backbone import Backbone
from dynexit.training.finetune.curriculum import dropout_rates, exit_weights
from dynexit.training.finetune.recipe import FinetuneRecipe
from dynexit.training.finetune.texts import Rows
from dynexit.workers import ALONE, Workers

READ_AT_ONCE = 1024  # positions: [1024, 32k] in fp32 is 134 MB


class EarlyExitObjective(nn.Module):
    """The backbone with its loss. Everything random follows from the recipe's seed and the step: a
    text skips the same layers whichever of the ``workers`` has it."""

    def __init__(
        self, backbone: Backbone, recipe: FinetuneRecipe, workers: Workers = ALONE
    ) -> None:
        super().__init__()
        self.backbone, self.recipe, self.workers = backbone, recipe, workers
        self._rates = dropout_rates(backbone.depth, recipe.layer_dropout)

    def forward(self, rows: Rows, step: int) -> Tensor:
        """The loss [] of these rows."""
        rng = random.Random(f"{self.recipe.seed}-{step}")
        weights = exit_weights(self.backbone.depth, step, self.recipe)
        following = rows.following[rows.learned]
        with torch.autocast(rows.ids.device.type, torch.bfloat16):
            hidden = self.backbone.embed(rows.ids)
            loss = torch.zeros((), device=hidden.device)
            for layer, weight in enumerate(weights):
                hidden = self._layer(layer, hidden, rng)
                if weight > 0.0:
                    loss = loss + weight * self._cross_entropy(hidden[rows.learned], following)
        return loss

    def _layer(self, layer: int, hidden: Tensor, rng: random.Random) -> Tensor:
        """The layer's output for the rows that do not skip it; padding, which comes last, is seen
        by nothing before it."""
        drawn = [rng.random() for _ in range(len(hidden) * self.workers.count)]
        mine = self.workers.share(drawn)
        kept = [row for row in range(len(hidden)) if mine[row] >= self._rates[layer]]
        if not kept:
            return hidden
        some = hidden if len(kept) == len(hidden) else hidden[kept]
        if self.recipe.recompute:
            out: Tensor = checkpoint(self._run, some, layer, use_reentrant=False)
        else:
            out = self._run(some, layer)
        if len(kept) == len(hidden):
            return out
        return hidden.index_copy(0, torch.tensor(kept, device=hidden.device), out.to(hidden.dtype))

    def _run(self, hidden: Tensor, layer: int) -> Tensor:
        count, width = hidden.shape[:2]
        place = self.backbone.place([0] * count, [width] * count)
        return self.backbone.run(hidden, None, layer, layer + 1, place)

    def _cross_entropy(self, hidden: Tensor, following: Tensor) -> Tensor:
        """Mean over positions [n, hidden]; the logits of few are in memory at once."""
        if len(hidden) <= READ_AT_ONCE:
            return self._losses(hidden, following) / len(hidden)
        pieces = zip(
            torch.split(hidden, READ_AT_ONCE), torch.split(following, READ_AT_ONCE), strict=True
        )
        sums = [checkpoint(self._losses, *piece, use_reentrant=False) for piece in pieces]
        return torch.stack(sums).sum() / len(hidden)

    def _losses(self, hidden: Tensor, following: Tensor) -> Tensor:
        logits = self.backbone.readout(hidden).float()
        return F.cross_entropy(logits, following, reduction="sum")
