"""Trained judges: a score token by token is the sigmoid of the sequence's log odds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.exits.judges import TRAINED_JUDGES, TrainedJudge, build_trained
from dynexit.exits.judges.trained import ClassifierJudge
from dynexit.models import Placement
from exits.judging import evidence, step_scores, whole

WITH_CLASSIFIERS = [
    kind for kind in TRAINED_JUDGES if isinstance(build_trained(kind, (1,), 4), ClassifierJudge)
]
HIDDEN, LAYERS = 24, (3, 5)


def random_judge(kind: str, seed: int = 0) -> TrainedJudge:
    torch.manual_seed(seed)
    judge = build_trained(kind, LAYERS, HIDDEN)
    for parameter in judge.parameters():  # away from the ones and zeros they start with
        parameter.data += 0.2 * torch.randn_like(parameter)
    return judge


def random_classifiers(kind: str) -> ClassifierJudge:
    judge = random_judge(kind)
    assert isinstance(judge, ClassifierJudge)
    return judge


@pytest.mark.parametrize("kind", WITH_CLASSIFIERS)
def test_steps_equal_the_sequence(kind: str) -> None:
    judge = random_judge(kind)
    hidden = torch.randn(3, 70, HIDDEN)  # longer than a chunk of the scan
    state = judge.new_state(3)
    for exit in range(len(LAYERS)):
        expected = judge.logits(exit, hidden, whole(3, 70)).sigmoid()
        torch.testing.assert_close(
            step_scores(judge, exit, hidden, state), expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", TRAINED_JUDGES)
def test_cost_is_that_of_the_matrices_read(kind: str) -> None:
    judge = build_trained(kind, LAYERS[:1], 4096)
    # a step of the ffn classifier has the second projection folded into the last; the vector of
    # an exit is no matrix
    beside = ("down.weight", "depth")
    read = (p for name, p in judge.named_parameters() if not name.endswith(beside))
    matrices = sum(p.numel() for p in read if p.dim() == 2 and p.numel() > 200)
    assert 2 * matrices <= judge.flops(0) < 1.1 * 2 * matrices
    assert 4 * matrices <= judge.weight_bytes(0) < 1.1 * 4 * matrices
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336  # weights in one of Mistral 7B
    assert judge.flops(0) < 0.006 * 2 * layer
    assert judge.weight_bytes(0) < 0.007 * 2 * layer  # which are in bf16


@pytest.mark.parametrize("kind", ["ffn", "mamba"])
@pytest.mark.parametrize("how", ["in place", "loaded", "moved"])
def test_steps_use_the_weights_at_hand_when_a_text_begins(kind: str, how: str) -> None:
    judge = random_judge(kind)
    hidden = torch.randn(2, 1, HIDDEN)
    step_scores(judge, 0, hidden, judge.new_state(2))
    changed = {name: 1.5 * tensor for name, tensor in judge.state_dict().items()}
    with torch.no_grad():
        if how == "loaded":
            judge.load_state_dict(changed)
        for name, parameter in judge.named_parameters():
            if how == "in place":
                parameter.copy_(changed[name])
            if how == "moved":
                parameter.data = changed[name]
    expected = judge.logits(0, hidden, whole(2, 1)).sigmoid()
    torch.testing.assert_close(step_scores(judge, 0, hidden, judge.new_state(2)), expected)


@pytest.mark.parametrize("kind", TRAINED_JUDGES)
def test_weights_are_prepared_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, times = random_judge(kind), []
    prepare = judge.prepare
    monkeypatch.setattr(judge, "prepare", lambda: times.append(1) or prepare())
    for _ in range(3):
        judge.new_state(1)
    assert len(times) == 1


@pytest.mark.parametrize("kind", TRAINED_JUDGES)
def test_start_at_sets_the_bias(kind: str) -> None:
    judge = random_judge(kind)
    hidden = torch.randn(len(LAYERS), 1, HIDDEN)
    for exit in range(len(LAYERS)):
        found = []
        for log_odds in (0.0, 1.5):
            judge.start_at(exit, log_odds)
            state = judge.new_state(1)
            scores = [step_scores(judge, e, h[None], state) for e, h in enumerate(hidden)]
            found.append(scores[exit].logit())
        torch.testing.assert_close(found[1], found[0] + 1.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", sorted({*TRAINED_JUDGES} - {"mamba"}))
def test_steps_equal_all_exits_at_once(kind: str) -> None:
    """Tokens are rows here, of which some leave on the way."""
    judge = random_judge(kind)
    hidden = torch.randn(len(LAYERS), 6, HIDDEN)
    state, rows = judge.new_state(6), torch.arange(6)
    with torch.inference_mode():
        expected = judge.token_logits(hidden).sigmoid()
        for exit, states in enumerate(hidden):
            scores = judge.score(exit, evidence(states[rows]), state, rows)
            torch.testing.assert_close(scores, expected[exit, rows], rtol=1e-4, atol=1e-5)
            rows = rows[1::2].flip(0)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_mamba_judge_on_texts_that_lose_tokens(data: st.DataObject, seed: int) -> None:
    """A batch of prompts of different lengths, read in pieces; then steps which some rows miss, as
    if their tokens had left before. Each row's scores are those of the tokens it saw, in one go."""
    judge = random_judge("mamba", seed)
    rows = data.draw(st.integers(1, 4))
    prompts = data.draw(st.lists(st.integers(0, 6), min_size=rows, max_size=rows))
    prompts[0] += 1
    seen = [[torch.randn(HIDDEN) for _ in range(n)] for n in prompts]
    state = judge.new_state(rows)
    padded = torch.full((rows, max(prompts), HIDDEN), 7.0)
    for b, tokens in enumerate(seen):
        padded[b, : len(tokens)] = torch.stack(tokens) if tokens else padded[b, :0]
    with torch.inference_mode():
        judge.observe(1, padded, state, Placement([0] * rows, prompts))
    scores: list[list[float]] = [[] for _ in range(rows)]
    for _ in range(5):
        there = sorted(data.draw(st.sets(st.integers(0, rows - 1))))
        if not there:
            continue
        hidden = torch.randn(len(there), HIDDEN)
        index = None if len(there) == rows else torch.tensor(there)
        with torch.inference_mode():
            values = judge.score(1, evidence(hidden), state, index)
        for i, b in enumerate(there):
            seen[b].append(hidden[i])
            scores[b].append(float(values[i]))
    for b in range(rows):
        if scores[b]:
            text = torch.stack(seen[b])[None]
            expected = judge.logits(1, text, whole(1, text.shape[1])).sigmoid()[0]
            torch.testing.assert_close(
                torch.tensor(scores[b]), expected[-len(scores[b]) :], rtol=1e-4, atol=1e-5
            )


def test_observing_a_subset_of_rows_and_going_on() -> None:
    judge = random_judge("mamba")
    hidden = torch.randn(1, 9, HIDDEN)
    state = judge.new_state(3)
    with torch.inference_mode():
        judge.observe(0, hidden[:, :4], state, Placement([0], [4], rows=[2]))
        step_scores(judge, 0, hidden[:, 4:6], state, rows=[2])
        judge.observe(0, hidden[:, 6:8], state, Placement([6], [2], rows=[2]))
        score = step_scores(judge, 0, hidden[:, 8:], state, rows=[2])
    expected = judge.logits(0, hidden, whole(1, 9)).sigmoid()
    torch.testing.assert_close(score[0], expected[0, -1:], rtol=1e-4, atol=1e-5)
    assert all((tensor[:2] == 0).all() for tensor in state.tensors.values())


def test_prompt_after_a_step_of_all_rows() -> None:
    judge = random_judge("mamba")
    hidden = torch.randn(2, 6, HIDDEN)
    state = judge.new_state(2)
    with torch.inference_mode():
        step_scores(judge, 0, hidden[:, :1], state)
        judge.observe(0, hidden[:, 1:5], state, Placement([1, 1], [4, 4]))
        score = step_scores(judge, 0, hidden[:, 5:], state)
    expected = judge.logits(0, hidden, whole(2, 6)).sigmoid()
    torch.testing.assert_close(score[:, 0], expected[:, -1], rtol=1e-4, atol=1e-5)
