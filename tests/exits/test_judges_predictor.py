"""The predictor looks at the first exit only, and says there what becomes of every other."""

import torch

from dynexit.exits.judges import build_trained
from exits.judging import evidence

HIDDEN, LAYERS = 24, (2, 3, 5)


def test_later_exits_are_foretold_at_the_first() -> None:
    torch.manual_seed(0)
    judge = build_trained("predictor", LAYERS, HIDDEN)
    first = torch.randn(4, HIDDEN)
    memory, rows = judge.new_state(4), torch.tensor([3, 1])
    with torch.inference_mode():
        expected = judge.token_logits(first.expand(len(LAYERS), -1, -1)).sigmoid()
        judge.score(0, evidence(first), memory, None)
        for exit in (1, 2):
            scores = judge.score(exit, evidence(torch.randn(2, HIDDEN)), memory, rows)
            torch.testing.assert_close(scores, expected[exit, rows])
    assert expected.std(0).min() > 0  # an exit's score is its own


def test_a_check_behind_the_first_costs_nothing() -> None:
    judge = build_trained("predictor", LAYERS, HIDDEN)
    assert judge.flops(0) > 0
    assert judge.weight_bytes(0) > 0
    assert [judge.flops(exit) + judge.weight_bytes(exit) for exit in (1, 2)] == [0, 0]
