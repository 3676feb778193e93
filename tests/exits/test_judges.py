"""Every judge keeps the promises of the interface; see the files beside for each kind."""

import pytest
import torch

from dynexit.errors import UserError
from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, TRAINED_JUDGES, build_judge, build_trained
from exits.judging import evidence

HIDDEN, VOCAB, LAYERS = 24, 40, (3, 5, 6)


@pytest.mark.parametrize("kind", JUDGES)
def test_scores_are_in_zero_to_one_and_need_what_they_say(kind: str) -> None:
    judge = build_judge(kind, LAYERS, HIDDEN)
    assert judge.kind == kind
    assert judge.layers == LAYERS
    state = judge.new_state(5)
    with torch.inference_mode():
        for exit in range(len(LAYERS)):
            hidden = 100 * torch.randn(5, HIDDEN)
            logits = 9 * torch.randn(5, VOCAB) if judge.needs_logits() else None
            scores = judge.score(exit, evidence(hidden, logits), state, None)
            assert scores.shape == (5,)
            assert scores.dtype == torch.float32
            assert ((scores >= 0) & (scores <= 1)).all()
            assert judge.flops(exit) >= 0


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_evidence_and_zeros_are_fine(kind: str, dtype: torch.dtype) -> None:
    judge = build_judge(kind, LAYERS, HIDDEN)
    state = judge.new_state(2)
    with torch.inference_mode():
        for exit in range(len(LAYERS)):
            seen = evidence(torch.zeros(2, HIDDEN, dtype=dtype), torch.zeros(2, VOCAB, dtype=dtype))
            scores = judge.score(exit, seen, state, None)
            assert scores.dtype == torch.float32
            assert scores.isfinite().all()


@pytest.mark.parametrize("kind", JUDGES)
def test_rows_are_independent(kind: str) -> None:
    """Judging rows apart, in turns, gives what judging them together gives."""
    torch.manual_seed(0)
    judge = build_judge(kind, LAYERS, HIDDEN)
    together, apart = judge.new_state(4), judge.new_state(4)
    with torch.inference_mode():
        for _ in range(3):
            for exit in range(len(LAYERS)):
                hidden, logits = torch.randn(4, HIDDEN), torch.randn(4, VOCAB).round()
                whole = judge.score(exit, evidence(hidden, logits), together, None)
                for rows in (torch.tensor([2, 0]), torch.tensor([3]), torch.tensor([1])):
                    part = judge.score(exit, evidence(hidden[rows], logits[rows]), apart, rows)
                    torch.testing.assert_close(part, whole[rows])


@pytest.mark.parametrize("kind", JUDGES)
def test_dropped_rows_leave_the_others_alone(kind: str) -> None:
    torch.manual_seed(1)
    judge = build_judge(kind, LAYERS, HIDDEN)
    full, kept = judge.new_state(3), judge.new_state(3)
    rows = torch.tensor([2, 0])
    with torch.inference_mode():
        for step in range(2):
            for exit in range(len(LAYERS)):
                hidden, logits = torch.randn(3, HIDDEN), torch.randn(3, VOCAB).round()
                expected = judge.score(exit, evidence(hidden, logits), full, None)
                if step == 0:
                    judge.score(exit, evidence(hidden, logits), kept, None)
                else:
                    got = judge.score(exit, evidence(hidden[rows], logits[rows]), kept, None)
                    torch.testing.assert_close(got, expected[rows])
            if step == 0:
                kept.keep(rows)


def test_unknown_names_and_options_are_told() -> None:
    with pytest.raises(
        UserError, match="no judge is called 'oracle'; there are linear, ffn, mamba"
    ):
        build_judge("oracle", LAYERS, HIDDEN)
    with pytest.raises(UserError, match="'linear' does not take these options: width"):
        build_judge("linear", LAYERS, HIDDEN, options={"width": 3})
    with pytest.raises(UserError, match="'entropy' needs no training"):
        build_trained("entropy", LAYERS, HIDDEN)
    assert build_trained("ffn", LAYERS, HIDDEN, options={"width": 7}).options == {"width": 7}
    assert TRAINED_JUDGES == ("linear", "ffn", "mamba", "shared", "depth", "predictor")
    assert TRAINED_JUDGES[:3] == DYNAMAX_JUDGES
