"""Training-free judges against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judges import build_judge
from exits.judging import evidence

HIDDEN, LAYERS = 4, (2, 3, 4)


def scores_of(kind: str, probabilities: list[float]) -> float:
    judge = build_judge(kind, LAYERS, HIDDEN)
    logits = torch.tensor([probabilities]).log() + 3.0
    return float(judge.score(0, evidence(torch.zeros(1, HIDDEN), logits), judge.new_state(1), None))


def test_confidence_by_hand() -> None:
    p = [0.5, 0.25, 0.125, 0.125]
    assert scores_of("top-probability", p) == pytest.approx(0.5)
    assert scores_of("margin", p) == pytest.approx(0.25)
    assert scores_of("entropy", p) == pytest.approx(1 - 1.75 * math.log(2) / math.log(4))
    assert scores_of("entropy", [0.25] * 4) == pytest.approx(0.0, abs=1e-6)
    assert scores_of("entropy", [1.0, 0.0, 0.0, 0.0]) == 1.0


def saturations(*states: list[float]) -> list[float]:
    judge = build_judge("saturation", LAYERS, HIDDEN)
    memory = judge.new_state(1)
    return [
        float(judge.score(exit, evidence(torch.tensor([hidden])), memory, None))
        for exit, hidden in enumerate(states)
    ]


def test_saturation_is_the_cosine_to_the_exit_before() -> None:
    got = saturations([1, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0])
    assert got == pytest.approx([0.0, 1.0, math.sqrt(0.5)])
    assert saturations([1, 0, 0, 0], [-1, 0, 0, 0]) == [0.0, 0.0]
    assert build_judge("saturation", LAYERS, HIDDEN).flops(1) == 24


def one_hot(token: int) -> Tensor:
    logits = torch.zeros(1, 9)
    logits[0, token] = 1.0
    return logits


def patiences(patience: int, *tokens: int) -> list[float]:
    judge = build_judge("patience", LAYERS, HIDDEN, options={"patience": patience})
    state = judge.new_state(1)
    state.tensors["streak"] += 5  # what an earlier token left must not count
    state.tensors["token"] += 1 + tokens[0]
    return [
        float(judge.score(exit, evidence(torch.zeros(1, HIDDEN), one_hot(t)), state, None))
        for exit, t in enumerate(tokens)
    ]


def test_patience_counts_agreeing_exits() -> None:
    assert patiences(2, 5, 5, 5) == [0.5, 1.0, 1.0]
    assert patiences(2, 5, 6, 6) == [0.5, 0.5, 1.0]
    assert patiences(4, 5, 5, 7) == [0.25, 0.5, 0.25]
    with pytest.raises(UserError, match="patience is 0"):
        patiences(0, 1)
