"""Steps at fixed shapes give what the backbone gives, whatever the rows, positions and families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.exits.skipped import SkippedStateSession, skipped_state
from dynexit.inference.segments import MAX_ROWS, FixedSegments, Segment
from dynexit.models import Backbone, Cache, load_backbone
from dynexit.models.layers import Layers
from inference.test_decoder import DEPTH, MIXERS, VOCAB, backbone
from models.zoo import FAMILIES, make_checkpoint, random_ids

POLICIES = [
    *((kind, state) for kind in MIXERS for state in ("propagate", "recompute")),
    ("attention", "copy"),
    ("mamba", "freeze"),
    ("mamba2", "freeze"),
]


ROWS: list[list[int] | None] = [None, [0, 1, 3], [2], [1, 2], None, None]
Made = TypeVar("Made", bound=FixedSegments)


class Counting(FixedSegments):
    """Notes the segments that ran at fixed shapes."""

    def __init__(self, backbone: Backbone, cache: Cache, smallest_bucket: int = 8) -> None:
        super().__init__(backbone, cache, smallest_bucket)
        self.ran: list[Segment] = []

    def _execute(self, segment: Segment) -> None:
        self.ran.append(segment)
        super()._execute(segment)


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def read(model: Backbone, cache: Cache, ids: Tensor, lengths: list[int]) -> None:
    place = model.place([0] * len(lengths), lengths)
    model.run(model.embed(ids[:, : place.width]), cache, 0, model.depth, place)


def step(
    model: Backbone,
    layers: Layers,
    cache: Cache,
    tokens: Tensor,
    starts: list[int],
    rows: list[int] | None = None,
    cut: int = 1,
) -> Tensor:
    """Logits of one token of each row, its layers run in two segments."""
    place = model.place(starts, [1] * len(starts), rows)
    hidden = layers.run(model.embed(tokens[:, None]), cache, 0, cut, place)
    return model.readout(layers.run(hidden, cache, cut, model.depth, place)[:, 0])


def same(one: Cache, other: Cache) -> None:
    for ours, theirs in zip(one.states, other.states, strict=True):
        if ours is not None and theirs is not None:
            for x, y in zip(ours.tensors(), theirs.tensors(), strict=True):
                torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def walk(
    model: Backbone,
    kind: Callable[[Backbone, Cache, int], Made],
    plan: Sequence[list[int] | None],
    capacity: int = 24,
) -> Made:
    """Four texts go on, in each step those rows (None: all): what ``kind`` makes of the backbone
    gives the same logits and states as the backbone itself, at positions in several buckets."""
    ids = (random_ids(4, capacity) % model.config.vocab).to(model.device)
    lengths = [3, 14, 6, 5]
    plain, fixed = model.new_cache(4, capacity), model.new_cache(4, capacity)
    segments = kind(model, fixed, 8)
    for cache in (plain, fixed):
        read(model, cache, ids, lengths)
    for rows in plan:
        which = list(range(4)) if rows is None else rows
        starts = [lengths[row] for row in which]
        tokens = ids[which, starts]
        expected = step(model, model, plain, tokens, starts, rows)
        got = step(model, segments, fixed, tokens, starts, rows)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        for row in which:
            lengths[row] += 1
    same(fixed, plain)
    return segments


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str, tmp_path: Path) -> None:
    """All rows, some of them, one of them; on to positions in other buckets."""
    make_checkpoint(name, tmp_path)
    model = load_backbone(tmp_path, torch.float32)
    segments = walk(model, Counting, ROWS)
    assert [(s.rows, s.whole) for s in segments.ran[::2]] == [
        (4, True),
        (3, False),
        (1, False),
        (2, False),
        (4, True),
        (4, True),
    ]
    assert {s.end for s in segments.ran} == {8, 16, 24}


@pytest.mark.parametrize(("kind", "state"), POLICIES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_state_policies(kind: str, state: str, data: st.DataObject) -> None:
    """A policy's session on fixed shapes leaves the cache and gives the states it gives without."""
    rows, steps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows))
    depth = st.sampled_from([1, 3, DEPTH])
    depths = data.draw(
        st.lists(st.lists(depth, min_size=3, max_size=3), min_size=steps, max_size=steps)
    )
    assert compare(backbone(kind), state, Counting, lengths, depths).ran


def compare(
    model: Backbone,
    state: str,
    kind: Callable[[Backbone, Cache, int], Made],
    lengths: list[int],
    script: Sequence[list[int]],
) -> Made:
    """Decode texts of those lengths, each row to the layers of the script, with what ``kind`` makes
    of the backbone and with the backbone itself. Of three rows the second ends after two steps."""
    policy, rows = skipped_state(state), len(lengths)
    caches = [model.new_cache(rows, 40) for _ in range(2)]
    segments = kind(model, caches[1], 8)
    sessions = [policy.session(model, caches[0]), policy.session(segments, caches[1])]
    ids = (random_ids(rows, 40, seed=1) % VOCAB).to(model.device)
    for cache in caches:
        read(model, cache, ids, lengths)
    for number, depths in enumerate(script):
        tokens = ids[range(len(lengths)), lengths]
        expected, got = (decode(model, one, tokens, lengths, depths) for one in sessions)
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
        lengths = [n + 1 for n in lengths]
        if number == 1 and rows == 3:
            for cache, session in zip(caches, sessions, strict=True):
                cache.keep([2, 0])
                session.keep([2, 0])
            lengths, ids = [lengths[2], lengths[0]], ids[[2, 0]]
    same(caches[1], caches[0])
    return segments


def decode(
    model: Backbone,
    session: SkippedStateSession,
    tokens: Tensor,
    lengths: list[int],
    depths: list[int],
) -> list[Tensor]:
    """Hidden states of each row where it leaves."""
    active, start, found = list(range(len(lengths))), 0, [torch.empty(0)] * len(lengths)
    hidden = model.embed(tokens[:, None])
    for stop in (1, 3, DEPTH):
        place = at(model, lengths, active)
        hidden = session.run(hidden, start, stop, place)
        gone = [b for b, row in enumerate(active) if depths[row] == stop]
        for b in gone:
            found[active[b]] = hidden[b]
        if gone and stop < DEPTH:
            session.leave(hidden[gone], stop, at(model, lengths, [active[b] for b in gone]))
        stay = [b for b in range(len(active)) if b not in gone]
        active, hidden, start = [active[b] for b in stay], hidden[stay], stop
        if not active:
            break
    return found


def at(model: Backbone, lengths: list[int], rows: list[int]):
    whole = len(rows) == len(lengths)
    return model.place([lengths[r] for r in rows], [1] * len(rows), None if whole else rows)


def test_what_is_given_back_stays_as_it_is() -> None:
    model = backbone("attention")
    cache = model.new_cache(1, 8)
    segments = FixedSegments(model, cache)
    hidden = segments.run(model.embed(torch.tensor([[3]])), cache, 0, 2, model.place([0], [1]))
    kept = hidden.clone()
    segments.run(model.embed(torch.tensor([[9]])), cache, 0, 2, model.place([1], [1]))
    assert torch.equal(hidden, kept)


def test_a_prompt_and_another_cache_are_the_backbones() -> None:
    model = backbone("hybrid")
    cache, other = model.new_cache(1, 8), model.new_cache(1, 8)
    segments = Counting(model, cache)
    segments.run(model.embed(torch.tensor([[3, 4]])), cache, 0, DEPTH, model.place([0], [2]))
    segments.run(model.embed(torch.tensor([[3]])), other, 0, DEPTH, model.place([0], [1]))
    assert segments.ran == []


@pytest.mark.parametrize(("rows", "fixed"), [(MAX_ROWS, True), (MAX_ROWS + 1, False)])
def test_only_so_many_rows(rows: int, fixed: bool) -> None:
    model = backbone("mamba2")
    cache, plain = model.new_cache(rows, 4), model.new_cache(rows, 4)
    segments = Counting(model, cache)
    hidden = model.embed(torch.arange(rows)[:, None] % VOCAB)
    place = model.place([0] * rows, [1] * rows)
    got = segments.run(hidden, cache, 0, DEPTH, place)
    torch.testing.assert_close(got, model.run(hidden, plain, 0, DEPTH, place))
    assert bool(segments.ran) == fixed


def test_texts_beyond_the_trained_context_of_dynamic_rope_are_the_backbones(
    tmp_path: Path,
) -> None:
    make_checkpoint("llama-dynamic", tmp_path)  # trained for 40 positions
    model = load_backbone(tmp_path, torch.float32)
    ids = random_ids(1, 48)
    plain, fixed = model.new_cache(1, 48), model.new_cache(1, 48)
    segments = Counting(model, fixed, smallest_bucket=256)
    for cache in (plain, fixed):
        read(model, cache, ids, [38])
    for position in range(38, 48):
        expected = step(model, model, plain, ids[:, position], [position])
        got = step(model, segments, fixed, ids[:, position], [position])
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert len(segments.ran) == 4
    assert {s.end for s in segments.ran} == {40}
