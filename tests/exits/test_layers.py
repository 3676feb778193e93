"""Which layers are exits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.exits.judge import check_layers, default_layers


@given(st.integers(2, 200), st.integers(1, 8))
def test_defaults_lie_in_the_second_half(depth: int, count: int) -> None:
    layers = default_layers(depth, count)
    assert check_layers(layers, depth) == layers
    assert len(layers) == min(count, depth - depth // 2)
    assert layers[0] == depth // 2


def test_defaults_of_the_known_shapes() -> None:
    assert default_layers(12) == (6, 7, 9, 10)
    assert default_layers(32) == (16, 20, 24, 28)
    assert default_layers(64) == (32, 40, 48, 56)
    assert default_layers(12, first=0.25) == (3, 5, 7, 9)


@pytest.mark.parametrize("layers", [[0], [12], [3, -1], []])
def test_layers_outside_the_model_are_refused(layers: list[int]) -> None:
    with pytest.raises(UserError, match="outside the model; give layers from 1 to 11"):
        check_layers(layers, 12)


def test_layers_come_sorted_and_once() -> None:
    assert check_layers([8, 4, 8], 12) == (4, 8)
