"""A judge whose score is no number: the token stays, and it is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges import build_judge
from dynexit.exits.judges.untrained import UntrainedJudge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.screen import Screen
from dynexit.exits.screened import behind_screen
from dynexit.exits.skipped import skipped_state
from dynexit.exits.translator import Translator, Translators
from dynexit.inference.generate import generate
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Model
from dynexit.reporting.depth import depth_summary
from dynexit.serving.metrics import Metrics
from training.tiny import tiny_model

SETTINGS = GenerationSettings(max_new_tokens=12)
PROMPTS = ["abc def", "hello there", "x"]
INVALID = [math.nan, math.inf, -math.inf]
READERS = ["top-probability", "margin", "entropy", "patience"]


class Broken(UntrainedJudge):
    """Says 1, but ``wrong`` for every second token."""

    kind = "broken"

    def __init__(self, layers: Sequence[int], hidden: int, wrong: float) -> None:
        super().__init__(layers, hidden)
        self._wrong = wrong

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({"seen": torch.zeros(rows, dtype=torch.long)})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        seen, which = state.tensors["seen"], slice(None) if rows is None else rows
        if exit == 0:
            seen[which] += 1
        return torch.where(seen[which] % 2 == 0, self._wrong, 1.0)

    def needs_logits(self) -> bool:
        return False


def policy(model: Model, wrong: float, threshold: float = 0.5) -> ExitPolicy:
    judge = Broken((1, 2), model.backbone.config.hidden, wrong)
    return ExitPolicy(judge, (threshold,) * 2, skipped_state("recompute"))


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
@pytest.mark.parametrize("wrong", INVALID)
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_the_token_stays(kind: str, wrong: float, threshold: float) -> None:
    model = tiny_model(kind)
    for answer in generate(model, PROMPTS, SETTINGS, policy(model, wrong, threshold)):
        layers = [token.exit_layer for token in answer.tokens]
        assert layers == [1 if at % 2 == 0 else 4 for at in range(len(layers))]
        assert [token.invalid_scores for token in answer.tokens] == [
            0 if layer == 1 else 2 for layer in layers
        ]
        assert all(token.score in (1.0, None) for token in answer.tokens)
        assert answer.invalid_scores == 2 * layers.count(4)
        assert "scores were no numbers" in depth_summary(answer)


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
@pytest.mark.parametrize("wrong", INVALID)
def test_lossless_drafts_nothing_there(kind: str, wrong: float) -> None:
    model = tiny_model(kind)
    full = generate(model, PROMPTS, SETTINGS)
    drafted = generate(model, PROMPTS, SETTINGS, policy(model, wrong), Lossless(adapt=False))
    assert [one.ids for one in drafted] == [one.ids for one in full]
    assert all(one.invalid_scores > 0 for one in drafted)


def test_a_trained_judge_of_a_state_that_overflowed() -> None:
    """It remembers that, and leaves no more; the text is the full model's."""
    model = tiny_model("mistral")
    judge = build_judge("mamba", (1, 2), model.backbone.config.hidden)
    with torch.no_grad():
        judge._at[0].norm.weight.fill_(1e38)
        judge._at[1].norm.weight.fill_(1e38)
    exits = ExitPolicy(judge, (0.0, 0.0), skipped_state("recompute"))
    (answer,) = generate(model, "abc", SETTINGS, exits)
    (full,) = generate(model, "abc", SETTINGS)
    assert answer.ids == full.ids
    assert answer.invalid_scores == 2 * len(answer.tokens)


class Overflowing(Translator):
    """Carries every second token out of the range of numbers at its exit, and only there."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden)
        self.calls = 0

    def forward(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return hidden * (math.nan if self.calls % 2 else 1.0)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("screened", [False, True])
def test_logits_of_an_exit_that_are_no_numbers(kind: str, screened: bool) -> None:
    """No judge that reads the vocabulary lets a token leave on them; the full model goes on."""
    model = tiny_model("mistral")
    hidden = model.backbone.config.hidden
    judge = build_judge(kind, (1,), hidden, options={"patience": 1} if kind == "patience" else None)
    if screened:
        judge = behind_screen(judge, Screen(model.backbone, 8, 4), hidden)
    translators = Translators((1,), hidden)
    translators.maps[0] = Overflowing(hidden)
    exits = ExitPolicy(judge, (0.0,), skipped_state("recompute"), translators=translators)
    (answer,) = generate(model, "abc", SETTINGS, exits)
    assert [token.exit_layer for token in answer.tokens[:4]] == [4, 1, 4, 1]
    assert [token.invalid_scores for token in answer.tokens[:4]] == [1, 0, 1, 0]


def test_the_server_counts_them() -> None:
    model, metrics = tiny_model("mistral"), Metrics(4)
    (answer,) = generate(model, "abc", SETTINGS, policy(model, math.nan))
    for token in answer.tokens:
        metrics.token(token, 0.1, first=False)
    (lossless,) = generate(model, "abc", SETTINGS, policy(model, math.nan), Lossless())
    assert lossless.drafting is not None
    metrics.drafted(lossless.drafting)
    counted = answer.invalid_scores + lossless.invalid_scores
    assert f"dynexit_invalid_scores_total {float(counted)}" in metrics.page().decode()
