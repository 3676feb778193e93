"""Log-probabilities of given continuations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from checkpoints import CONTEXT, SHAPES, make_checkpoint
from dynexit.errors import UserError
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.likelihood import Likelihood, log_likelihood, log_likelihood_ids
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model, load_model

NEVER = 2.0
Pair = tuple[list[int], list[int]]
ids = st.lists(st.integers(0, 255), min_size=1, max_size=9)
prompts = st.one_of(ids, st.just([7, 7, 1]))  # some share theirs
pairs = st.lists(st.tuples(prompts, ids), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=sorted(SHAPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory: Path = tmp_path_factory.mktemp("checkpoint") / request.param
    return load_model(str(make_checkpoint(directory, request.param)))


@pytest.fixture(scope="module")
def oracle(model: Model) -> torch.nn.Module:
    """The same checkpoint in transformers."""
    return AutoModelForCausalLM.from_pretrained(model.directory).eval()


def exits(model: Model, threshold: float, state: str = "recompute") -> ExitPolicy:
    judge = build_judge("top-probability", (1, 2), model.backbone.config.hidden, "cpu")
    return ExitPolicy(judge, (threshold, threshold), skipped_state(state))


def same(ours: list[Likelihood], theirs: list[Likelihood], tolerance: float = 1e-4) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=tolerance)
        assert one.greedy == other.greedy
        assert one.exit_layers == other.exit_layers
        assert one.prompt_tokens == other.prompt_tokens


@torch.inference_mode()
def expected(oracle: torch.nn.Module, prompt: list[int], rest: list[int]) -> torch.Tensor:
    """Log-softmax [len(rest), vocab] of the logits that precede each token of ``rest``."""
    logits = oracle(torch.tensor([prompt + rest])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1)


SOME: list[Pair] = [
    ([1, 2, 3, 4], [5, 6]),
    ([9], [8, 7, 6, 5, 4]),
    ([1, 2, 3, 4], [200]),
    (list(range(70)), [3] * 40),
    ([1, 2, 3, 4], [5, 9, 11]),
]


def test_equals_transformers(model: Model, oracle: torch.nn.Module) -> None:
    found = log_likelihood_ids(model, SOME)
    for (prompt, rest), likelihood in zip(SOME, found, strict=True):
        scores = expected(oracle, prompt, rest)
        wanted = scores.gather(-1, torch.tensor(rest)[:, None])[:, 0]
        assert likelihood.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)
        assert likelihood.total == pytest.approx(float(wanted.sum()), abs=1e-3)
        assert list(likelihood.greedy) == (scores.argmax(-1) == torch.tensor(rest)).tolist()
        assert likelihood.exit_layers == (model.backbone.depth,) * len(rest)
        assert likelihood.prompt_tokens == len(prompt)


def test_greedy_continuation_is_greedy(model: Model) -> None:
    answer = generate(model, "Hello", GenerationSettings(max_new_tokens=6))[0]
    prompt = model.tokenizer.encode("Hello")
    other = [*answer.ids[:-1], (answer.ids[-1] + 1) % 256]
    best, changed = log_likelihood_ids(model, [(prompt, answer.ids), (prompt, other)])
    assert best.is_greedy
    assert not changed.is_greedy
    assert changed.greedy[:-1] == best.greedy[:-1]


@settings(max_examples=15, deadline=None)
@given(pairs=pairs, batch=st.integers(1, 7))
def test_batched_equals_single(model: Model, pairs: list[Pair], batch: int) -> None:
    alone = [log_likelihood_ids(model, [pair])[0] for pair in pairs]
    same(log_likelihood_ids(model, pairs, batch=batch), alone)


@settings(max_examples=10, deadline=None)
@given(pairs=pairs, batch=st.integers(1, 7))
def test_never_leaving_equals_full_depth(model: Model, pairs: list[Pair], batch: int) -> None:
    same(
        log_likelihood_ids(model, pairs, exits(model, NEVER), batch),
        log_likelihood_ids(model, pairs, batch=batch),
    )


@settings(max_examples=20, deadline=None)
@given(
    pairs=pairs,
    threshold=st.sampled_from([0.0, 0.045, 0.06]),
    state=st.sampled_from(["recompute", "propagate"]),
)
def test_batched_exits_equal_single(
    model: Model, pairs: list[Pair], threshold: float, state: str
) -> None:
    policy = exits(model, threshold, state)
    alone = [log_likelihood_ids(model, [pair], policy)[0] for pair in pairs]
    same(log_likelihood_ids(model, pairs, policy), alone)


def test_continuations_of_one_prompt_do_not_meet(model: Model) -> None:
    """They share the reading of the prompt, and nothing after it."""
    prompt = [7, 7, 1]
    pairs = [(prompt, rest) for rest in ([3, 9, 200, 4, 5], [100, 9, 8, 7, 1, 2], [50, 60, 70])]
    policy = exits(model, 0.06)
    together = log_likelihood_ids(model, pairs, policy)
    assert len({layer for one in together for layer in one.exit_layers}) > 1
    same(together, [log_likelihood_ids(model, [pair], policy)[0] for pair in pairs])


@pytest.mark.parametrize("state", ["recompute", "propagate"])
def test_forced_steps_are_those_of_decoding(model: Model, state: str) -> None:
    """What was generated with exits is, token for token, what its likelihood is made of."""
    policy = exits(model, 0.06, state)
    answer = generate(model, "Hello there", GenerationSettings(max_new_tokens=12), policy)[0]
    assert len({token.exit_layer for token in answer.tokens}) > 1
    prompt = model.tokenizer.encode("Hello there")
    found = log_likelihood_ids(model, [(prompt, answer.ids)], policy)[0]
    assert found.exit_layers == tuple(token.exit_layer for token in answer.tokens)
    assert found.is_greedy


def test_leaving_at_once_reads_out_the_first_exit(model: Model) -> None:
    found = log_likelihood_ids(model, SOME, exits(model, 0.0))
    assert {layer for one in found for layer in one.exit_layers} == {1}
    full = log_likelihood_ids(model, SOME)
    assert found[0].total != pytest.approx(full[0].total, abs=1e-4)


def test_texts(model: Model) -> None:
    encode = model.tokenizer.encode
    found = log_likelihood(model, [("Hello ", "world"), ("Hello", " world")])
    same(found, log_likelihood_ids(model, [(encode("Hello"), encode(" world"))] * 2))


def test_a_tick_for_every_pair(model: Model) -> None:
    ticks: list[int] = []
    log_likelihood_ids(model, SOME, batch=2, tick=lambda: ticks.append(1))
    assert len(ticks) == len(SOME)
    assert log_likelihood_ids(model, []) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([], [1]), "context 1 holds no token"),
        (([1], []), "continuation 1 holds no token"),
        (([1], [256]), "256 of text 1 is outside the vocabulary"),
    ],
)
def test_bad_pairs(model: Model, pair: Pair, message: str) -> None:
    with pytest.raises(UserError, match=message):
        log_likelihood_ids(model, [([1], [2]), pair])


@pytest.mark.parametrize("model", ["mistral"], indirect=True)
def test_context_is_used_to_its_end(model: Model) -> None:
    fits = ([1] * (CONTEXT - 1), [2, 3])
    assert len(log_likelihood_ids(model, [fits])[0].logprobs) == 2
    with pytest.raises(UserError, match=f"{CONTEXT + 2} tokens.*holds {CONTEXT}"):
        log_likelihood_ids(model, [([1] * CONTEXT, [2, 3])])
