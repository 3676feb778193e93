"""Judging a text token by token, as decoding does, for the tests of all judges."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.models import Placement


def evidence(hidden: Tensor, logits: Tensor | None = None) -> Evidence:
    def readout(exit: int, hidden: Tensor) -> Tensor:
        assert logits is not None, "this judge must not read out the vocabulary"
        return logits

    return Evidence(0, hidden, readout)


@torch.inference_mode()
def step_scores(
    judge: Judge, exit: int, hidden: Tensor, state: JudgeState, rows: Sequence[int] | None = None
) -> Tensor:
    """Scores [B, T] of [B, T, hidden], one token after another."""
    index = None if rows is None else torch.tensor(rows)
    columns = [
        judge.score(exit, evidence(hidden[:, t]), state, index) for t in range(hidden.shape[1])
    ]
    return torch.stack(columns, dim=1)


def whole(rows: int, width: int) -> Placement:
    """Placement of ``rows`` sequences of ``width`` tokens from the start."""
    return Placement([0] * rows, [width] * rows)
