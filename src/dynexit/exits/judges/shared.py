"""The shared judge: one feed-forward block for all exits, told at which one it stands.

A classifier of each exit learns from the tokens that come to it, fewer and fewer with depth; this
one learns from all of them, and its weights are those of a single ``ffn`` classifier. The exit is
an input as in a one-hot code: a learned vector of each exit, added where a position would be.
Sharing exit heads is known of readouts (one head for all layers: LayerSkip, Elhoushi et al. 2024);
DYNAMAX has a classifier for each exit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.ffn import FfnClassifier
from dynexit.exits.judges.trained import Step, TrainedJudge


class SharedJudge(TrainedJudge):
    """Trained; looks at the one token alone. ``width`` is that of the bottleneck."""

    kind = "shared"
    by_exit = ("depth",)

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        width: int = 128,
    ) -> None:
        super().__init__(layers, {"width": width})
        self.classifier = FfnClassifier(hidden, width)
        self.depth = nn.Parameter(torch.zeros(len(self.layers), width + 1))
        self._steps: tuple[Step, ...] = ()
        self.to(device)

    def token_logits(self, hidden: Tensor) -> Tensor:
        return self.classifier(hidden, shift=self.depth[:, None])  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_at(self, exit: int, log_odds: float) -> None:
        self.depth[exit, -1] = log_odds - self.classifier.out.bias[0]

    def prepare(self) -> None:
        self._steps = tuple(self.classifier.prepared(shift) for shift in self.depth)

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        return torch.sigmoid(self._steps[exit](evidence.hidden))

    def flops(self, exit: int) -> int:
        return self.classifier.flops()

    def weight_bytes(self, exit: int) -> int:
        return self.classifier.weight_bytes() + self.depth[exit].nbytes
