"""Prompts read once: decoding goes on from there as from prompts of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import SHAPES, make_checkpoint
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.inference.generate import generate
from dynexit.inference.reading import read
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.settings import Lossless
from dynexit.models.loading import Model, load_model

PROMPTS = ["Hello there", "A longer prompt than that one", "x"]
SETTINGS = GenerationSettings(max_new_tokens=8, prefill_chunk=6)


@pytest.fixture(scope="module", params=tuple(SHAPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = make_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    return load_model(str(directory))


def _policies(model: Model) -> list[ExitPolicy | None]:
    """Full depth, a judge that remembers prompts, and one that does not, at other exits."""
    hidden = model.backbone.config.hidden
    torch.manual_seed(0)
    mamba, entropy = build_judge("mamba", (1, 2), hidden), build_judge("entropy", (3,), hidden)
    state = skipped_state("recompute")
    return [None, ExitPolicy(mamba, (0.5, 0.5), state), ExitPolicy(entropy, (0.05,), state)]


def _ids(model: Model, prompts: Sequence[str]) -> list[list[int]]:
    return [model.tokenizer.encode(prompt)[:-1] for prompt in prompts]


@pytest.mark.parametrize("lossless", [None, Lossless()], ids=["exits", "lossless"])
def test_answers_are_those_of_prompts_of_their_own(model: Model, lossless: Lossless | None) -> None:
    policies = _policies(model)
    reading = read(model.backbone, _ids(model, PROMPTS), policies, SETTINGS.prefill_chunk)
    for policy in policies:
        own = generate(model, PROMPTS, SETTINGS, policy, lossless)
        shared = generate(model, PROMPTS, SETTINGS, policy, lossless, reading=reading)
        for a, b in zip(own, shared, strict=True):
            assert a.ids == b.ids
            assert [t.exit_layer for t in a.tokens] == [t.exit_layer for t in b.tokens]
            assert [t.score for t in a.tokens] == [t.score for t in b.tokens]
            assert b.prefill_seconds > reading.seconds


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 17), min_size=1, max_size=3), chunk=st.integers(1, 20))
def test_the_states_are_those_of_prefill(model: Model, lengths: list[int], chunk: int) -> None:
    backbone, policy = model.backbone, _policies(model)[1]
    prompts = [list(range(3, 3 + length)) for length in lengths]
    own = Decoder(backbone, len(prompts), 20, policy)
    own.prefill(prompts, chunk)
    shared = Decoder(backbone, len(prompts), 20, policy)
    read(backbone, prompts, [policy], chunk).continued(shared)
    assert shared.lengths == own.lengths
    for a, b in zip(own.cache.states, shared.cache.states, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert all(map(torch.equal, a.tensors(), b.tensors()))
    left, right = own._judging.tensors, shared._judging.tensors
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_reading_is_not_changed_by_decoding(model: Model) -> None:
    reading = read(model.backbone, _ids(model, PROMPTS), [None])
    first = generate(model, PROMPTS, SETTINGS, reading=reading)
    second = generate(model, PROMPTS, SETTINGS, reading=reading)
    assert [one.ids for one in first] == [one.ids for one in second]


def test_a_reading_of_other_prompts_is_refused(model: Model) -> None:
    reading = read(model.backbone, _ids(model, PROMPTS), [None])
    with pytest.raises(ValueError, match="other prompts"):
        generate(model, PROMPTS[::-1], SETTINGS, reading=reading)
