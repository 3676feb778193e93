"""Greedy lossless decoding is the full model's, and leaves its state."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.speculative.cases import (
    CAPACITY,
    KINDS,
    model_of,
    plain,
    random_policy,
    speculate,
)
from tests.inference.test_decoder import HIDDEN, VOCAB

from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import AttentionState

GREEDY = GenerationSettings()
PENALISED = GenerationSettings(repetition_penalty=1.3)
TOKEN = st.integers(0, VOCAB - 1)
PROMPT = st.lists(TOKEN, min_size=2, max_size=6)
HOW = st.builds(Lossless, max_draft=st.integers(1, 9), adapt=st.booleans(), strict=st.booleans())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(
    prompts=st.lists(PROMPT, min_size=1, max_size=3),
    seed=st.integers(0, 999),
    how=HOW,
    penalised=st.booleans(),
    data=st.data(),
)
def test_answers_are_the_full_models(
    kind: str,
    prompts: list[list[int]],
    seed: int,
    how: Lossless,
    penalised: bool,
    data: st.DataObject,
) -> None:
    model, wanted = model_of(kind), PENALISED if penalised else GREEDY
    tokens = [data.draw(st.integers(1, 14), label="tokens") for _ in prompts]
    full, _ = plain(model, prompts, max(tokens), wanted)
    answers, _ = speculate(model, prompts, tokens, random_policy(seed), wanted, how)
    assert answers == [one[:n] for one, n in zip(full, tokens, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None)
@given(prompt=PROMPT, seed=st.integers(0, 999))
def test_the_state_is_that_of_plain_decoding(kind: str, prompt: list[int], seed: int) -> None:
    """Convolution and scan, keys and values: after partial acceptances nothing may drift."""
    model = model_of(kind)
    how = Lossless(adapt=False)
    answers, made = speculate(model, [prompt], [12], random_policy(seed), GREEDY, how)
    decoder, text = Decoder(model, 1, CAPACITY), [*prompt, *answers[0]]
    length = made.decoder.lengths[0]
    decoder.prefill([text[:length]])
    for ours, theirs in zip(made.decoder.cache.states, decoder.cache.states, strict=True):
        assert ours is not None
        assert theirs is not None
        for a, b in zip(ours.tensors(), theirs.tensors(), strict=True):
            if isinstance(ours, AttentionState):
                a, b = a[:, :, :length], b[:, :, :length]
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_drafts_are_made_and_some_fall(kind: str) -> None:
    """The cases above are worth something: drafts stand, drafts fall, at the first place too."""
    model, stood, fell = model_of(kind), 0, 0
    for seed in range(6):
        how = Lossless(adapt=False)
        _, made = speculate(model, [[seed, 5]], [30], random_policy(seed), GREEDY, how)
        tally = made.tallies[0]
        stood += tally.accepted
        fell += tally.drafts - tally.accepted
    assert stood > 10
    assert fell > 5


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_accepted_is_right_as_well(kind: str) -> None:
    """A whole draft falls again and again: what was never written must not be put back."""
    model = model_of(kind)
    for block in model.blocks():
        block.scale = 3.0
    judge = build_judge("fixed", (1,), HIDDEN, torch.device("cpu"))
    policy = ExitPolicy(judge, (1.0,), skipped_state("recompute"))
    prompts = [[3, 1, 4], [1, 5]]
    full, _ = plain(model, prompts, 16, GREEDY)
    answers, made = speculate(
        model, prompts, [16, 16], policy, GREEDY, Lossless(max_draft=5, adapt=False)
    )
    assert answers == full
    assert sum(tally.accepted for tally in made.tallies) < 8
    assert sum(tally.drafts for tally in made.tallies) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_inside_a_draft(kind: str) -> None:
    """A drafted end is verified at once, and nothing is fed after it."""
    model, prompt = model_of(kind), [2, 7, 1]
    full = plain(model, [prompt], 20, GREEDY)[0][0]
    for end in sorted(set(full)):
        ends = frozenset({end})
        wanted = full[: full.index(end) + 1]
        for seed in range(5):
            answers, made = speculate(
                model, [prompt], [20], random_policy(seed), GREEDY, Lossless(), ends
            )
            assert answers == [wanted]
            assert made.decoder.lengths[0] <= len(prompt) - 1 + len(wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_exact_in_low_precision(kind: str, dtype: torch.dtype) -> None:
    """Our kernels give a token the same numbers alone and among others; strict runs it alone."""
    model = model_of(kind, dtype)
    for strict in (False, True):
        for seed in range(2):
            prompt = [seed, 9, 4]
            full, _ = plain(model, [prompt], 40, GREEDY)
            how = Lossless(strict=strict, adapt=False)
            answers, _ = speculate(model, [prompt], [40], random_policy(seed), GREEDY, how)
            assert answers == full
