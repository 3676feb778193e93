"""``advance`` leaves exactly the state that ``forward`` leaves for the same input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.shapes import MIXERS, assert_same_cache, random_hidden, run, small_backbone


@pytest.mark.parametrize("kind", MIXERS)
@given(
    prompt=st.integers(0, 6),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    subset=st.booleans(),
)
@settings(max_examples=15, deadline=None)
@torch.no_grad()
def test_advance_leaves_the_state_of_forward(
    kind: str, prompt: int, lengths: list[int], subset: bool
) -> None:
    backbone, rows = small_backbone(kind, depth=1), len(lengths) + subset
    one, other = backbone.new_cache(rows, 16), backbone.new_cache(rows, 16)
    if prompt:
        for cache in (one, other):
            run(backbone, cache, random_hidden(rows, prompt), [0] * rows)
    hidden = random_hidden(len(lengths), max(lengths), seed=1)
    at = list(range(rows))[::-1][: len(lengths)] if subset else None
    place = backbone.place([prompt] * len(lengths), lengths, at)
    backbone.run(hidden, one, 0, 1, place)
    backbone.advance(hidden, other, 0, 1, place)
    assert_same_cache(one, other)


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_each_layer_advances_from_the_same_hidden_state(kind: str) -> None:
    backbone = small_backbone(kind, depth=3)
    hidden, place = random_hidden(1, 1), backbone.place([0], [1])
    advanced, expected = backbone.new_cache(1, 4), backbone.new_cache(1, 4)
    backbone.advance(hidden, advanced, 1, 3, place)
    for layer in (1, 2):
        backbone.run(hidden, expected, layer, layer + 1, place)
    assert_same_cache(advanced, expected)
