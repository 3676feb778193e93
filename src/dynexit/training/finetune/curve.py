"""What each layer is good for: the readout after it against the text and against the full model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models.backbone import Backbone
from dynexit.training.finetune.texts import Rows

READ_AT_ONCE = 256


@dataclass(frozen=True)
class ExitPoint:
    """After ``layer``: mean cross-entropy in nats, the share of tokens whose best is the text's
    (``accuracy``), and the share whose best is the last layer's (``agreement``)."""

    layer: int
    loss: float
    accuracy: float
    agreement: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def exit_curve(backbone: Backbone, batches: Iterable[Rows]) -> list[ExitPoint]:
    """A point for every layer, over the learned tokens of all batches."""
    depth, tokens = backbone.depth, 0
    loss, right, agreed = ([0.0] * depth for _ in range(3))
    for rows in batches:
        following = rows.following[rows.learned]
        tokens += len(following)
        best: list[Tensor] = []
        for layer, hidden in enumerate(exit_states(backbone, rows)):
            top, losses = _read(backbone, hidden, following)
            best.append(top)
            loss[layer] += losses
            right[layer] += int((top == following).sum())
        for layer, top in enumerate(best):
            agreed[layer] += int((top == best[-1]).sum())
    shares = zip(loss, right, agreed, strict=True)
    return [ExitPoint(n, *(x / tokens for x in found)) for n, found in enumerate(shares, start=1)]


def exit_states(backbone: Backbone, rows: Rows) -> Iterable[Tensor]:
    """Hidden states [n, hidden] of the learned positions after each layer."""
    hidden = backbone.embed(rows.ids)
    count, width = rows.ids.shape
    place = backbone.place([0] * count, [width] * count)
    for layer in range(backbone.depth):
        hidden = backbone.run(hidden, None, layer, layer + 1, place)
        yield hidden[rows.learned]


def _read(backbone: Backbone, hidden: Tensor, following: Tensor) -> tuple[Tensor, float]:
    """The best token [n] at each position, and the sum of the losses."""
    best, total = [], 0.0
    for states, wanted in zip(
        torch.split(hidden, READ_AT_ONCE), torch.split(following, READ_AT_ONCE), strict=True
    ):
        logits = backbone.readout(states).float()
        best.append(logits.argmax(-1))
        total += float(F.cross_entropy(logits, wanted, reduction="sum"))
    return torch.cat(best), total
