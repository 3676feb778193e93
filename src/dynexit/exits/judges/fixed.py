"""The fixed judge: every token leaves at the first exit layer, as with ``--exit-layer``."""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.untrained import UntrainedJudge


class Fixed(UntrainedJudge):
    """Score 1, always."""

    kind = "fixed"

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        hidden = evidence.hidden
        return torch.ones(hidden.shape[0], device=hidden.device)

    def needs_logits(self) -> bool:
        return False
