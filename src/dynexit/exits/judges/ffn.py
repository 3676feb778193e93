"""The feed-forward judge: a transformer's feed-forward block, then a projection to one logit.

One of the three classifiers of DYNAMAX, which does not say how wide the block is. Here it is a
bottleneck, so that a check of a 4096-wide model costs half a percent of one of its layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.exits.judges.trained import ExitClassifier, TrainedJudge
from dynexit.exits.judges.unit import inverse_rms
from dynexit.models.placement import Placement


class FfnClassifier(ExitClassifier):
    """``x = rms(h); w . (x + down(silu(up(x)))) + b``.

    The residual is the normalised state, as the projection must not depend on the stream's scale.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, width)
        self.down = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)

    def forward(self, hidden: Tensor, place: Placement | None = None) -> Tensor:
        x = hidden.float()
        x = x * inverse_rms(x)
        wide = F.silu(F.linear(x, self.up.weight, self.up.bias))
        x = x + F.linear(wide, self.down.weight)
        return F.linear(x, self.out.weight, self.out.bias).squeeze(-1)

    def start_at(self, log_odds: float) -> None:
        nn.init.constant_(self.out.bias, log_odds)

    def flops(self) -> int:
        return 2 * (self.up.weight.numel() + self.down.weight.numel() + self.out.weight.numel())


class FfnJudge(TrainedJudge):
    """Trained; looks at the one token alone. ``width`` is that of the bottleneck."""

    kind = "ffn"

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        width: int = 128,
    ) -> None:
        super().__init__(layers, {"width": width}, lambda: FfnClassifier(hidden, width))
        self.to(device)
