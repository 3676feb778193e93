"""Recurrent states go back to any of their last tokens, convolution and scan together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.speculative.cases import VOCAB, model_of

from dynexit.models import Backbone
from dynexit.models.cache import Cache

RECURRENT = ("mamba", "mamba2", "hybrid")


def read(model: Backbone, cache: Cache, row: int, ids: list[int], start: int) -> None:
    rows = None if cache.rows == 1 else [row]
    hidden = model.embed(torch.tensor([ids]))
    model.run(hidden, cache, 0, model.depth, model.place([start], [len(ids)], rows))


def begin(cache: Cache, row: int, position: int) -> None:
    for state in cache.recurrent():
        assert state.trail is not None
        state.trail.begin(row, position, state)


@pytest.mark.parametrize("kind", RECURRENT)
@torch.inference_mode()
@settings(max_examples=20, deadline=None)
@given(
    before=st.integers(1, 5),
    pieces=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    data=st.data(),
)
def test_back_to_any_token(kind: str, before: int, pieces: list[int], data: st.DataObject) -> None:
    """Tokens come in pieces of several sizes, as drafts and their verification do."""
    model, count = model_of(kind), sum(pieces)
    keep = data.draw(st.integers(0, count), label="keep")
    ids = torch.randint(VOCAB, (before + count,)).tolist()
    cache = model.new_cache(2, 32)
    model.leave_trails(cache, count)
    read(model, cache, 1, ids[:before], 0)
    begin(cache, 1, before)
    at = before
    for piece in pieces:
        read(model, cache, 1, ids[at : at + piece], at)
        at += piece
    model.replay(1, before + keep, cache)
    plain = model.new_cache(2, 32)
    for at in range(before + keep):
        read(model, plain, 1, ids[at : at + 1], at)
    for ours, theirs in zip(cache.recurrent(), plain.recurrent(), strict=True):
        torch.testing.assert_close(ours.conv, theirs.conv, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.ssm, theirs.ssm, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", RECURRENT)
@torch.inference_mode()
def test_bit_for_bit_in_low_precision(kind: str) -> None:
    """What decoding would have left, also in bf16, by our own kernels."""
    model = model_of(kind, torch.bfloat16)
    ids = torch.randint(VOCAB, (12,)).tolist()
    cache, plain = model.new_cache(1, 32), model.new_cache(1, 32)
    model.leave_trails(cache, 8)
    for at in range(4):
        read(model, cache, 0, ids[at : at + 1], at)
        read(model, plain, 0, ids[at : at + 1], at)
    begin(cache, 0, 4)
    read(model, cache, 0, ids[4:12], 4)
    model.replay(0, 9, cache)
    for at in range(4, 9):
        read(model, plain, 0, ids[at : at + 1], at)
    for ours, theirs in zip(cache.recurrent(), plain.recurrent(), strict=True):
        assert torch.equal(ours.conv, theirs.conv)
        assert torch.equal(ours.ssm, theirs.ssm)


@torch.inference_mode()
def test_no_way_back_where_none_was_begun() -> None:
    """A copy that was never made, or was used, cannot be put back."""
    model = model_of("mamba2")
    cache = model.new_cache(1, 16)
    model.leave_trails(cache, 4)
    read(model, cache, 0, [1, 2, 3], 0)
    with pytest.raises(ValueError, match="no way back"):
        model.replay(0, 2, cache)
    begin(cache, 0, 3)
    read(model, cache, 0, [4], 3)
    with pytest.raises(ValueError, match="no way back"):
        model.replay(0, 2, cache)
    model.replay(0, 3, cache)  # to where it began, and that ends it
    with pytest.raises(ValueError, match="no way back"):
        model.replay(0, 3, cache)
    with pytest.raises(ValueError, match="keeps all its rows"):
        cache.keep([0])


def test_memory_is_a_second_state_and_the_inputs() -> None:
    model = model_of("mamba2")
    cache = model.new_cache(1, 16)
    held = model.leave_trails(cache, 8)
    states = sum(t.nbytes for s in cache.recurrent() for t in s.tensors())
    assert states < held < 2.5 * states
