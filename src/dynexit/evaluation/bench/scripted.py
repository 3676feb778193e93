"""A judge that follows a script: rows of a batch at mixed depths, the same in every round."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.untrained import UntrainedJudge

PERIOD = 64  # tokens until a row's script begins again


class Scripted(UntrainedJudge):
    """Score 1 from the exit on that the script has for a row's token, before it 0.

    Exits are drawn evenly from all of ``layers`` and full depth, independently for every row and
    token. ``depth`` is the backbone's.
    """

    kind = "scripted"

    def __init__(self, layers: Sequence[int], hidden: int, depth: int, seed: int = 0) -> None:
        super().__init__(layers, hidden)
        self._depths = torch.tensor([*self.layers, depth])
        self._seed = seed

    def script(self, rows: int) -> Tensor:
        """The index of the exit, or of full depth, for each row and token [rows, PERIOD]."""
        generator = torch.Generator().manual_seed(self._seed)
        return torch.randint(len(self._depths), (rows, PERIOD), generator=generator)

    def mean_layer(self, rows: int, tokens: int) -> float:
        """Mean exit layer of the first ``tokens`` tokens of all rows."""
        at = torch.arange(tokens) % PERIOD
        return float(self._depths[self.script(rows)[:, at]].double().mean())

    def new_state(self, rows: int) -> JudgeState:
        token = torch.full((rows,), -1, dtype=torch.long)
        return JudgeState({"script": self.script(rows), "token": token})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        script, token = state.tensors["script"], state.tensors["token"]
        which = torch.arange(len(token)) if rows is None else rows
        if exit == 0:  # every token comes by here
            token[which] += 1
        return (script[which, token[which] % PERIOD] <= exit).float()

    def needs_logits(self) -> bool:
        return False
