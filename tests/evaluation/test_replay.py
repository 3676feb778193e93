"""Replaying an answer tells what decoding with exact states would do, for every judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.evaluation.reliability import reliability
from dynexit.evaluation.replay import Replay, record, replays, same_answer
from dynexit.evaluation.replayed import Replayed, catch_up
from dynexit.evaluation.runner import answer_in_batches, settings_for
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, build_judge
from dynexit.exits.judges.untrained import UntrainedJudge
from dynexit.exits.policy import Constant, ExitPolicy, Schedule
from dynexit.exits.recompute import Recompute
from dynexit.exits.schedules import Decaying
from dynexit.exits.screen import Screen
from dynexit.exits.screened import behind_screen
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model, load_model
from dynexit.reference.pair import NAMES, exits_directory

PROMPTS = ("Where is Mary?", "x", "Story: Tina has a horse.\nQ: Who?\nA:", "12 apples")
SETTINGS = GenerationSettings(max_new_tokens=6)
LAYERS = (2, 3)


def decoded(
    model: Model,
    prompt: str,
    judge: Judge,
    thresholds: Sequence[float],
    how: GenerationSettings = SETTINGS,
    schedule: Schedule | None = None,
) -> Generation:
    state = skipped_state("recompute")
    policy = ExitPolicy(judge, tuple(thresholds), state, schedule or Constant())
    return generate(model, prompt, how, policy)[0]


def assert_is_decoding(found: Replayed, early: Generation) -> None:
    """All that a replay says of an answer is what decoding did."""
    same = early.ids == found.full.ids
    known = len(early.tokens) if found.divergence is None else found.divergence + 1
    assert found.same == same
    tokens = early.tokens[:known]
    assert [t.exit_layer for t in tokens] == list(found.exit_layers[:known])
    assert [t.score for t in tokens] == pytest.approx(found.scores[:known], abs=1e-4)
    if not same:
        assert found.generation is None
        assert early.ids[: known - 1] == found.full.ids[: known - 1]
        assert early.ids[known - 1] != found.full.ids[known - 1]
        return
    made = found.generation
    assert made is not None
    rounded = [replace(token, score=None) for token in made.tokens]
    assert rounded == [replace(token, score=None) for token in early.tokens]
    assert (made.text, made.finish, made.layers) == (early.text, early.finish, early.layers)


@pytest.mark.parametrize("kind", JUDGES)
def test_equals_decoding(model: Model, kind: str) -> None:
    torch.manual_seed(4)
    judge = build_judge(kind, LAYERS, model.backbone.config.hidden)
    full = [generate(model, prompt, SETTINGS)[0] for prompt in PROMPTS]
    recordings = [record(model, p, a, LAYERS) for p, a in zip(PROMPTS, full, strict=True)]
    replay = replays([judge], iter(recordings))[0]
    seen = set()
    for threshold in (0.0, 0.01, 0.05, 0.2, 0.5, 0.6, 0.999, 1.5):
        thresholds = (threshold, threshold)
        for i, found in enumerate(replay.decode(thresholds)):
            early = decoded(model, PROMPTS[i], judge, thresholds)
            assert_is_decoding(found, early)
            assert same_answer(recordings[i], judge, thresholds) == found.same
            seen.add(found.same)
    assert True in seen  # a threshold above 1 is never reached


@cache
def reference(name: str, kind: str) -> tuple[Model, list[str], GenerationSettings, Replay]:
    """A shipped model in fp32, some questions of its tasks, and their replay for a judge."""
    model = load_model(f"reference:{name}", torch.float32)
    tasks = reference_tasks(limit=4)
    prompts = [question.prompt for task in tasks for question in task.questions]
    exits = load_exit_set(exits_directory(name, "mamba"), model.backbone)
    judge: Judge = build_judge(kind, exits.layers, model.backbone.config.hidden)
    if kind in DYNAMAX_JUDGES:
        judge = load_exit_set(exits_directory(name, kind), model.backbone).judge
    full = answer_in_batches(model, tasks, None)
    recordings = (record(model, p, a, judge.layers) for p, a in zip(prompts, full, strict=True))
    return model, prompts, settings_for(tasks[0]), replays([judge], recordings)[0]


@pytest.mark.parametrize("kind", ["margin", "patience"])
def test_a_screened_judge_is_replayed_with_what_it_misses(kind: str) -> None:
    model, prompts, how, plain = reference("mamba2", kind)
    backbone = model.backbone
    screen = Screen(backbone, 8, 16)  # a poor one
    judge = behind_screen(plain.judge, screen, backbone.config.hidden)
    full = [one.full for one in plain.decode((1.01, 1.01))][::3]
    recordings = [
        record(model, p, a, judge.layers) for p, a in zip(prompts[::3], full, strict=True)
    ]
    replay, missed, idle = replays([judge], recordings)[0], False, 0
    for thresholds in ((0.9, 0.9), (1.01, 0.2), (0.3, 1.01)):
        exact = plain.decode(thresholds)[::3]
        for prompt, one, other in zip(prompts[::3], replay.decode(thresholds), exact, strict=True):
            assert_is_decoding(one, decoded(model, prompt, judge, thresholds, how))
            assert all(a >= b for a, b in zip(one.exit_layers, other.exit_layers, strict=True))
            missed = missed or one.exit_layers != other.exit_layers
            idle += sum(one.idle_readouts)
    assert missed
    assert idle > 0
    for own, true in zip(replay.judged(), plain.judged()[::3], strict=True):
        torch.testing.assert_close(torch.tensor(own[0]), torch.tensor(true[0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [kind for kind in JUDGES if kind != "fixed"])
def test_equals_decoding_of_the_reference_pair(name: str, kind: str) -> None:
    model, prompts, how, replay = reference(name, kind)
    layers = set()
    for thresholds in ((0.9, 0.9), (1.01, 0.2), (0.3, 1.01)):
        found = replay.decode(thresholds)
        for prompt, one in list(zip(prompts, found, strict=True))[::4]:
            early = decoded(model, prompt, replay.judge, thresholds, how)
            assert_is_decoding(one, early)
            layers |= {token.exit_layer for token in early.tokens}
    assert len(layers) > 1


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.02), min_size=2, max_size=2),
    st.integers(0, 11),
    st.sampled_from(["mamba", "linear", "saturation"]),
    st.sampled_from([None, Decaying(8)]),
)
def test_any_thresholds(
    thresholds: list[float], index: int, kind: str, schedule: Schedule | None
) -> None:
    model, prompts, how, replay = reference("mistral", kind)
    early = decoded(model, prompts[index], replay.judge, thresholds, how, schedule)
    assert_is_decoding(replay.decode(thresholds, schedule)[index], early)


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(1, 6))
@settings(deadline=None)
def test_catch_up_is_conserved(exit_layers: list[int], limit: int) -> None:
    depth = 5
    found = catch_up(exit_layers, depth, limit)
    assert len(found) == len(exit_layers)
    closed = catch_up([*exit_layers, depth], depth, limit)
    # once a token has gone to the end, every skipped layer was run
    assert sum(closed) == sum(depth - layer for layer in exit_layers)
    assert closed[:-1] == found


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_catch_up_beyond_the_limit(model: Model, limit: int) -> None:
    judge = build_judge("top-probability", LAYERS, model.backbone.config.hidden)
    how = GenerationSettings(max_new_tokens=12)
    for threshold in (0.0, 0.05, 0.3):
        policy = ExitPolicy(judge, (2 * threshold, threshold), Recompute(limit))
        tokens = generate(model, "Where is Mary?", how, policy)[0].tokens
        ran = [token.catch_up for token in tokens]
        assert ran == catch_up([t.exit_layer for t in tokens], model.backbone.depth, limit)


def test_scores_of_all_tokens_at_all_exits() -> None:
    *_, replay = reference("mistral", "mamba")
    judged = replay.judged()
    for found, (scores, right) in zip(replay.decode((1.01, 1.01)), judged, strict=True):
        assert scores.shape == right.shape == (2, len(found.full.tokens))
        assert ((scores > 0) & (scores < 1)).all()
        assert found.scores == tuple(scores[-1])


class Wild(UntrainedJudge):
    """A score of the hidden state, which for some states is no number."""

    kind = "wild"

    def __init__(self, layers: Sequence[int], hidden: int, wrong: float) -> None:
        super().__init__(layers, hidden)
        self._wrong = wrong

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        one, two = evidence.hidden[:, 0], evidence.hidden[:, 1]
        return torch.where(one > 0, self._wrong, torch.sigmoid(two))

    def needs_logits(self) -> bool:
        return False


class Remembering:
    """The same judge as one that a replay must ask step by step."""

    def __init__(self, judge: Wild) -> None:
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("remembers", [False, True])
def test_scores_that_are_no_numbers(model: Model, wrong: float, remembers: bool) -> None:
    wild = Wild(LAYERS, model.backbone.config.hidden, wrong)
    judge: Judge = Remembering(wild) if remembers else wild
    full = [generate(model, prompt, SETTINGS)[0] for prompt in PROMPTS]
    recordings = [record(model, p, a, LAYERS) for p, a in zip(PROMPTS, full, strict=True)]
    replay, seen = replays([judge], recordings)[0], set()
    for threshold in (0.0, 0.5, 1.01):
        thresholds = (threshold, threshold)
        for prompt, found in zip(PROMPTS, replay.decode(thresholds), strict=True):
            assert_is_decoding(found, decoded(model, prompt, judge, thresholds))
            seen |= set(zip(found.invalid_scores, found.exit_layers, strict=True))
    depth = model.backbone.depth
    assert {(1, 3), (2, depth), (0, 2)} <= seen  # stayed once, stayed to the end, left at once
    for exit in range(2):
        scores, right = (
            np.concatenate(parts, axis=1)[exit] for parts in zip(*replay.judged(), strict=True)
        )
        assert not np.isfinite(scores).all()
        told = reliability(scores, right)
        assert sum(one.count for one in told.bins) == np.isfinite(scores).sum()
        assert np.isfinite(told.ece)


def test_no_answers() -> None:
    judge = build_judge("margin", LAYERS, 8)
    for kind in ("margin", "mamba"):
        judge = build_judge(kind, LAYERS, 8)
        replay = replays([judge], [])[0]
        assert replay.decode((0.5, 0.5)) == replay.judged() == []
