"""The depth judge remembers one token's earlier exits, and nothing of other tokens."""

import torch
from torch import Tensor

from dynexit.exits.judge import JudgeState
from dynexit.exits.judges import TrainedJudge, build_trained
from exits.judging import evidence, whole

HIDDEN, LAYERS = 24, (2, 3, 5, 6)


def judged(judge: TrainedJudge, states: Tensor, memory: JudgeState) -> Tensor:
    """Scores [exits, B] of one token each with states [exits, B, hidden]."""
    with torch.inference_mode():
        seen = [judge.score(e, evidence(h), memory, None) for e, h in enumerate(states)]
    return torch.stack(seen)


def test_a_later_exit_depends_on_the_earlier_ones() -> None:
    torch.manual_seed(0)
    judge = build_trained("depth", LAYERS, HIDDEN)
    states = torch.randn(len(LAYERS), 2, HIDDEN)
    other = states.clone()
    other[1] += torch.randn(2, HIDDEN)
    first, second = (judged(judge, s, judge.new_state(2)) for s in (states, other))
    torch.testing.assert_close(first[0], second[0])
    assert (first[1:] - second[1:]).abs().min() > 0


def test_every_token_begins_anew() -> None:
    torch.manual_seed(1)
    judge = build_trained("depth", LAYERS, HIDDEN)
    states, before = torch.randn(len(LAYERS), 3, HIDDEN), torch.randn(len(LAYERS), 3, HIDDEN)
    memory = judge.new_state(3)
    judge.observe(0, torch.randn(3, 5, HIDDEN), memory, whole(3, 5))
    judged(judge, before[:2], memory)  # tokens that left at the second exit
    torch.testing.assert_close(
        judged(judge, states, memory), judged(judge, states, judge.new_state(3))
    )


def test_one_block_serves_all_exits() -> None:
    sizes = [
        sum(p.numel() for p in build_trained("depth", layers, HIDDEN).parameters())
        for layers in (LAYERS[:1], LAYERS)
    ]
    assert sizes[1] - sizes[0] == 3 * (HIDDEN + 1)
