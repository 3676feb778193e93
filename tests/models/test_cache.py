"""Cached running: rows are independent, states can be saved, put back, dropped and cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.models import AttentionState, Backbone, Cache
from models.shapes import MIXERS, assert_same_cache, random_hidden, run, small_backbone

CAPACITY = 40
KINDS = pytest.mark.parametrize("kind", MIXERS)


def filled(backbone: Backbone, lengths: list[int], seed: int = 0) -> Cache:
    """A cache whose rows hold prompts of these lengths."""
    cache = backbone.new_cache(len(lengths), CAPACITY)
    hidden = random_hidden(len(lengths), max(lengths), seed=seed)
    run(backbone, cache, hidden, [0] * len(lengths), lengths)
    return cache


@KINDS
@given(data=st.data())
@settings(max_examples=12, deadline=None)
@torch.no_grad()
def test_any_cut_of_a_ragged_batch_equals_each_row_at_once(kind: str, data: st.DataObject) -> None:
    backbone = small_backbone(kind)
    cuts = data.draw(
        st.lists(
            st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=4
        ).filter(lambda cuts: all(max(c) for c in cuts))
    )
    hidden = random_hidden(3, CAPACITY)
    cache, starts, outputs = backbone.new_cache(3, CAPACITY), [0, 0, 0], [[], [], []]
    for lengths in cuts:
        piece = torch.stack(
            [hidden[b, s : s + max(lengths)] for b, s in enumerate(starts)]
        )  # what follows a row's own tokens is padding, and any value must do
        out = run(backbone, cache, piece, starts, lengths)
        for b, n in enumerate(lengths):
            outputs[b].append(out[b, :n])
        starts = [s + n for s, n in zip(starts, lengths, strict=True)]
    for b, length in enumerate(starts):
        if length:
            alone = run(backbone, backbone.new_cache(1, length), hidden[b : b + 1, :length], [0])
            torch.testing.assert_close(torch.cat(outputs[b]), alone[0], atol=1e-5, rtol=1e-5)


@KINDS
@given(
    rows=st.permutations(range(4)).flatmap(
        lambda order: st.integers(1, 4).map(lambda n: order[:n])
    ),
    width=st.integers(1, 3),
)
@settings(max_examples=12, deadline=None)
@torch.no_grad()
def test_a_subset_of_rows_equals_each_row_alone(kind: str, rows: list[int], width: int) -> None:
    backbone, lengths = small_backbone(kind), [3, 9, 1, 6]
    cache, untouched = filled(backbone, lengths), filled(backbone, lengths)
    hidden = random_hidden(len(rows), width, seed=1)
    out = run(backbone, cache, hidden, [lengths[r] for r in rows], rows=list(rows))
    for b, row in enumerate(rows):
        alone = filled(backbone, lengths)
        alone.keep([row])
        expected = run(backbone, alone, hidden[b : b + 1], [lengths[row]])
        torch.testing.assert_close(out[b : b + 1], expected, atol=1e-5, rtol=1e-5)
    rest = [row for row in range(4) if row not in rows]
    if rest:
        cache.keep(rest)
        untouched.keep(rest)
        assert_same_cache(cache, untouched)


@KINDS
@torch.no_grad()
def test_snapshot_and_truncate_undo_what_came_after(kind: str) -> None:
    backbone = small_backbone(kind)
    cache, expected = filled(backbone, [7, 7]), filled(backbone, [7, 7])
    saved = cache.snapshot()
    for position in range(7, 12):
        run(backbone, cache, random_hidden(2, 1, seed=position), [position] * 2)
    cache.restore(saved)
    cache.truncate(7)
    for ours, theirs in zip(cache.states, expected.states, strict=True):
        assert ours is not None
        assert theirs is not None
        for x, y in zip(ours.tensors(), theirs.tensors(), strict=True):
            assert torch.equal(x, y)


@torch.no_grad()
def test_truncate_clears_no_further_than_told() -> None:
    cache = filled(small_backbone("attention"), [9])
    cache.truncate(4, end=6)
    state = cache.states[0]
    assert isinstance(state, AttentionState)
    assert [bool(state.k[0, 0, t].any()) for t in range(9)] == [True] * 4 + [False] * 2 + [True] * 3


@KINDS
@torch.no_grad()
def test_keep_reorders_and_drops_rows(kind: str) -> None:
    backbone, lengths = small_backbone(kind), [3, 9, 6]
    cache = filled(backbone, lengths)
    cache.keep([2, 0])
    assert cache.rows == 2
    hidden = random_hidden(2, 1, seed=5)
    out = run(backbone, cache, hidden, [6, 3])
    whole = run(backbone, filled(backbone, lengths), hidden[[1, 0, 0]], [3, 9, 6])
    torch.testing.assert_close(out[1], whole[0], atol=1e-5, rtol=1e-5)
    expected = filled(backbone, lengths)
    expected.keep([2])
    torch.testing.assert_close(out[:1], run(backbone, expected, hidden[:1], [6]))


@KINDS
def test_recurrent_states_do_not_grow_with_the_text(kind: str) -> None:
    backbone = small_backbone(kind)
    short, long = backbone.new_cache(1, 10).nbytes(), backbone.new_cache(1, 100).nbytes()
    assert long == (short * 10 if "attention" in kind or kind == "window" else short)


@KINDS
@torch.no_grad()
def test_step_reads_what_a_prompt_of_one_row_left_in_bf16(kind: str) -> None:
    backbone = small_backbone(kind).to(torch.bfloat16)
    hidden = random_hidden(1, 8).bfloat16()
    whole = run(backbone, backbone.new_cache(1, 8), hidden, [0])
    cache = backbone.new_cache(1, 8)
    steps = [run(backbone, cache, hidden[:, t : t + 1], [t]) for t in range(8)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=0.15, rtol=0.05)


@KINDS
def test_as_many_rows_as_memory_may_hold(kind: str) -> None:
    backbone = small_backbone(kind)
    one = backbone.new_cache(1, CAPACITY).nbytes()
    assert backbone.rows_within(CAPACITY, 5 * one + one // 2) == 5
    assert backbone.rows_within(CAPACITY, one - 1) == 1  # never none
