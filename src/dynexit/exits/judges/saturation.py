"""Hidden-state saturation: how little the hidden state turned since the exit before.

CALM (Schuster et al. 2022, section 3.5) compares neighbouring layers; here neighbouring exits are
compared, as only they are looked at.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.untrained import UntrainedJudge, put


class Saturation(UntrainedJudge):
    """Cosine of the hidden states at this exit and the one before, negative ones as 0.

    The first exit has none before it: its score is 0, so no token leaves there.
    """

    kind = "saturation"

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({"before": torch.zeros(rows, self.hidden, device=self.device)})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        hidden, before = evidence.hidden.float(), state.tensors["before"]
        if exit == 0:
            scores = hidden.new_zeros(hidden.shape[0])
        else:
            last = before if rows is None else before[rows]
            scores = F.cosine_similarity(hidden, last, dim=-1).clamp_(0.0, 1.0)
        put(before, rows, hidden)
        return scores

    def flops(self, exit: int) -> int:
        return 0 if exit == 0 else 6 * self.hidden  # three dot products

    def needs_logits(self) -> bool:
        return False
