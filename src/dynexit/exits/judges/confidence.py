"""Training-free judges of the readout's distribution p at the exit, over V words.

``top-probability`` is max p, ``margin`` the difference of the two largest (CALM's softmax response,
Schuster et al. 2022, section 3.5), ``entropy`` 1 - H(p) / log V (DeeBERT's measure, Xin et al.
2020, turned so that 1 is certain).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.untrained import UntrainedJudge


class TopProbability(UntrainedJudge):
    """The probability of the most probable token."""

    kind = "top-probability"

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        return torch.softmax(evidence.logits(), -1, dtype=torch.float32).amax(-1)


class Margin(UntrainedJudge):
    """By how much the most probable token leads."""

    kind = "margin"

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        top = torch.softmax(evidence.logits(), -1, dtype=torch.float32).topk(2).values
        return top[:, 0] - top[:, 1]


class Entropy(UntrainedJudge):
    """How far the entropy is from that of the uniform distribution."""

    kind = "entropy"

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        p = torch.softmax(evidence.logits(), -1, dtype=torch.float32)
        entropy: Tensor = torch.special.entr(p).sum(-1)
        # rounding may carry a uniform distribution a hair below 0
        return (1.0 - entropy / math.log(p.shape[-1])).clamp_(0.0, 1.0)
