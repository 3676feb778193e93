"""The feed-forward judge: a transformer's feed-forward block, then a projection to one logit.

One of the three classifiers of DYNAMAX, which does not say how wide the block is. Here it is a
bottleneck. Nothing is nonlinear after ``down``, so that for single tokens it goes into the last
projection once and for all: a check reads ``up`` alone, which for a 4096-wide model is 2 MB, half a
percent of a layer of Mistral 7B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.exits.judges.trained import ClassifierJudge, ExitClassifier, Step
from dynexit.exits.judges.unit import for_unit, inverse_rms, unit_product
from dynexit.models.placement import Placement
from dynexit.models.projection import apply


class FfnClassifier(ExitClassifier):
    """``x = rms(h); w . (x + down(silu(up(x)))) + b``.

    The residual is the normalised state, as the projection must not depend on the stream's scale.
    A ``shift`` [..., width + 1] is added to the biases of ``up`` and of the projection.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, width)
        self.down = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)

    def forward(
        self, hidden: Tensor, place: Placement | None = None, shift: Tensor | None = None
    ) -> Tensor:
        x = hidden.float()
        x = x * inverse_rms(x)
        wide = F.linear(x, self.up.weight, self.up.bias)
        wide = F.silu(wide if shift is None else wide + shift[..., :-1])
        x = x + F.linear(wide, self.down.weight)
        logits = F.linear(x, self.out.weight, self.out.bias).squeeze(-1)
        return logits if shift is None else logits + shift[..., -1]

    def prepared(self, shift: Tensor | None = None) -> Step:
        matrix = for_unit(torch.cat((self.up.weight, self.out.weight)))
        bias = torch.cat((self.up.bias, self.out.bias))
        bias = bias if shift is None else bias + shift
        folded = self.out.weight @ self.down.weight  # [1, width]

        def step(hidden: Tensor) -> Tensor:
            x = hidden.float()
            y = unit_product(bias, apply(x, matrix, None), x)
            wide, residual = y[:, :-1], y[:, -1:]
            return (F.linear(F.silu(wide), folded) + residual).squeeze(-1)

        return step

    def start_at(self, log_odds: float) -> None:
        nn.init.constant_(self.out.bias, log_odds)

    def flops(self) -> int:
        return 2 * (self.up.weight.numel() + self.out.weight.numel() + self.up.out_features)

    def weight_bytes(self) -> int:
        folded = self.up.bias.nbytes  # as long as the bias
        return sum(p.nbytes for p in (*self.up.parameters(), *self.out.parameters())) + folded


class FfnJudge(ClassifierJudge):
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
