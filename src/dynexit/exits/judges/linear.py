"""The linear judge: one projection of the hidden state (CALM: Schuster et al. 2022, sec. 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.exits.judges.trained import ClassifierJudge, ExitClassifier, Step
from dynexit.exits.judges.unit import for_unit, inverse_rms, unit_product
from dynexit.models.placement import Placement


class LinearClassifier(ExitClassifier):
    """``w . rms(h) + b``. The norm, which the paper leaves open, makes exits of deep layers and of
    shallow ones, whose residual streams differ in scale, equally easy to fit."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.out = nn.Linear(hidden, 1)

    def forward(self, hidden: Tensor, place: Placement | None = None) -> Tensor:
        x = hidden.float()
        projected = F.linear(x, self.out.weight)  # scaled after, when it is one number
        return torch.addcmul(self.out.bias, projected, inverse_rms(x)).squeeze(-1)

    def prepared(self) -> Step:
        weight, bias = for_unit(self.out.weight), self.out.bias

        def step(hidden: Tensor) -> Tensor:
            x = hidden.float()
            return unit_product(bias, F.linear(x, weight), x).squeeze(-1)

        return step

    def start_at(self, log_odds: float) -> None:
        nn.init.constant_(self.out.bias, log_odds)

    def flops(self) -> int:
        return 2 * self.out.in_features


class LinearJudge(ClassifierJudge):
    """Trained; looks at the one token alone."""

    kind = "linear"

    def __init__(
        self, layers: Sequence[int], hidden: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(layers, {}, lambda: LinearClassifier(hidden))
        self.to(device)
