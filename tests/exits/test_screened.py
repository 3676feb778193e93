"""Screened judges: exact where a token leaves, the readout their own, the cost counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judge import Evidence
from dynexit.exits.judges import build_judge
from dynexit.exits.judges.patience import Patience
from dynexit.exits.screen import Screen
from dynexit.exits.screened import ScreenedConfidence, behind_screen
from dynexit.models.backbone import Backbone
from exits.test_screen import HIDDEN, VOCAB, backbone

LAYERS = (2, 3, 4)
KINDS = ("top-probability", "margin", "entropy", "patience")
NEVER = 2.0


def evidence(model: Backbone, exit: int, hidden: Tensor, least: float = 0.0) -> Evidence:
    return Evidence(exit, hidden, lambda exit, hidden: model.readout(hidden), least)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rank=st.integers(1, 8),
    candidates=st.integers(1, 16),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0, NEVER]),
    batch=st.integers(1, 4),
    seed=st.integers(0, 999),
)
@torch.inference_mode()
def test_leaves_only_where_the_exact_judge_does(
    kind: str, rank: int, candidates: int, threshold: float, batch: int, seed: int
) -> None:
    """Whatever a screen is worth: a score that reaches the threshold is the exact one."""
    model = backbone(divisor=0.1)  # sure of itself
    torch.manual_seed(seed)
    judge, screen = build_judge(kind, LAYERS, HIDDEN), Screen(model, rank, candidates)
    screened = behind_screen(build_judge(kind, LAYERS, HIDDEN), screen, HIDDEN)
    memory, own = judge.new_state(batch), screened.new_state(batch)
    tokens, rows = torch.randn(batch, HIDDEN), torch.arange(batch)
    for exit in range(len(LAYERS)):
        hidden = tokens[rows] + 0.3 * torch.randn(len(rows), HIDDEN)
        exact = judge.score(exit, evidence(model, exit, hidden), memory, rows)
        seen = evidence(model, exit, hidden, threshold)
        found = screened.score(exit, seen, own, None if len(rows) == batch else rows)
        gone = [b for b, score in enumerate(found.tolist()) if score >= threshold]
        torch.testing.assert_close(found[gone], exact[gone])
        before = list(seen.readouts)
        assert all(before[b] >= 1 for b in gone)
        if gone:
            torch.testing.assert_close(seen.logits(gone), model.readout(hidden[gone]))
        assert seen.readouts == before  # nothing is read out twice
        if threshold == NEVER:
            assert not any(before)
        rows = rows[found < threshold]
        if not len(rows):
            break


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_perfect_screen_misses_nothing_and_reads_nothing_in_vain(kind: str) -> None:
    model = backbone(divisor=0.1)
    torch.manual_seed(0)
    judge, screen = build_judge(kind, LAYERS, HIDDEN), Screen(model, HIDDEN, VOCAB)
    screened = behind_screen(build_judge(kind, LAYERS, HIDDEN), screen, HIDDEN)
    memory, own = judge.new_state(50), screened.new_state(50)
    tokens, left = torch.randn(50, HIDDEN), 0
    for exit in range(len(LAYERS)):
        hidden = tokens + 0.3 * torch.randn(50, HIDDEN)
        exact = judge.score(exit, evidence(model, exit, hidden), memory, None)
        seen = evidence(model, exit, hidden, 0.8)
        found = screened.score(exit, seen, own, None)
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3)
        leaving = exact >= 0.8
        left += int(leaving.sum())
        if kind != "patience":  # which reads earlier exits too
            assert [n == 1 for n in seen.readouts] == leaving.tolist()
    assert 0 < left < 3 * 50


@torch.inference_mode()
def test_patience_reads_the_exits_that_it_counts() -> None:
    """Two exits in a row agree: both are read out; a third then knows the one before."""
    model, hidden = backbone(), torch.randn(1, HIDDEN)
    screened = behind_screen(Patience(LAYERS, HIDDEN), Screen(model, 8), HIDDEN)
    state, counts = screened.new_state(1), []
    for exit in range(3):
        seen = evidence(model, exit, hidden, 1.0)
        counts.append((float(screened.score(exit, seen, state, None)), seen.readouts[0]))
    assert counts == [(0.5, 0), (1.0, 2), (1.0, 1)]


@torch.inference_mode()
def test_patience_is_not_fooled_by_an_earlier_exit() -> None:
    """The screen took the exits for agreed; read out, they are not."""
    model = backbone()
    screened = behind_screen(Patience(LAYERS, HIDDEN), Screen(model, 1, 1), HIDDEN)
    judge, fooled = Patience(LAYERS, HIDDEN), 0
    torch.manual_seed(0)
    for _ in range(40):
        state, memory = screened.new_state(1), judge.new_state(1)
        for exit in range(2):
            hidden = torch.randn(1, HIDDEN)
            seen = evidence(model, exit, hidden, 1.0)
            found = float(screened.score(exit, seen, state, None))
            exact = float(judge.score(exit, evidence(model, exit, hidden), memory, None))
        fooled += seen.readouts[0] > 0 and found < 1.0
        assert found <= exact
    assert fooled > 0


def test_what_a_screen_is_not_for() -> None:
    screen = Screen(backbone(), 4)
    for kind in ("saturation", "linear", "mamba", "fixed"):
        with pytest.raises(UserError, match=f"'{kind}' reads no vocabulary"):
            behind_screen(build_judge(kind, LAYERS, HIDDEN), screen, HIDDEN)


def test_it_is_the_judge_and_costs_the_screen() -> None:
    screen = Screen(backbone(), 4)
    screened = behind_screen(build_judge("margin", LAYERS, HIDDEN), screen, HIDDEN)
    assert isinstance(screened, ScreenedConfidence)
    assert (screened.kind, screened.layers, screened.options) == ("margin", LAYERS, {})
    assert screened.flops(0) == screen.flops()
    assert screened.weight_bytes(0) == screen.weight_bytes()
    assert not screened.needs_logits()
