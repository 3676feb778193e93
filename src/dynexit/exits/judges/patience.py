"""Patience: leave when several exits in a row give the same top token (PABEE, Zhou et al. 2020).

PABEE counts agreements; here exits are counted, so its patience t is t + 1 here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.untrained import UntrainedJudge, put


class Patience(UntrainedJudge):
    """The number of exits in a row, this one included, with this top token, over ``patience``
    (at most 1). A score of 1 means that the patience is used up."""

    kind = "patience"

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        patience: int = 2,
    ) -> None:
        super().__init__(layers, hidden, device)
        if patience < 1:
            raise UserError(f"patience is {patience}; give at least 1 exit")
        self.patience = patience
        self.options = {"patience": patience}

    def new_state(self, rows: int) -> JudgeState:
        token = torch.full((rows,), -1, dtype=torch.long, device=self.device)
        return JudgeState({"token": token, "streak": torch.zeros(rows, device=self.device)})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        token, streak = state.tensors["token"], state.tensors["streak"]
        # of bf16 in a quarter of the time of argmax
        largest, top = evidence.logits().max(-1)
        if exit == 0:
            length = torch.ones_like(top, dtype=streak.dtype)
        else:
            last, run = (token, streak) if rows is None else (token[rows], streak[rows])
            length = run * (top == last) + 1.0
        put(token, rows, top)
        put(streak, rows, length)
        scores = (length / self.patience).clamp_(max=1.0)
        # the best of logits that are no numbers agrees with anything; such a score is none, too
        return scores + 0.0 * largest
