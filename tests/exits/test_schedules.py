"""Schedules: CALM's decay as in the paper, depth by position as a falling line."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.exits.judges.registry import build_judge
from dynexit.exits.policy import Constant, ExitPolicy
from dynexit.exits.schedules import Decaying, DepthByPosition, openings
from dynexit.exits.skipped import skipped_state

BASE = st.floats(0.0, 1.0)


def test_decay_by_hand() -> None:
    schedule = Decaying(length=100, temperature=4.0)
    assert schedule.threshold(0.8, 0) == pytest.approx(0.82)
    assert schedule.threshold(0.8, 50) == pytest.approx(0.72 + 0.1 * math.exp(-2.0))
    assert schedule.threshold(0.8, 100) == pytest.approx(0.72 + 0.1 * math.exp(-4.0))
    assert Decaying(length=8, temperature=0.0).threshold(0.5, 7) == pytest.approx(0.55)


@given(BASE, st.integers(0, 500), st.integers(1, 300), st.floats(0.0, 20.0))
def test_decay_falls_and_stays_in_range(
    base: float, position: int, length: int, temperature: float
) -> None:
    schedule = Decaying(length, temperature)
    here, next_ = schedule.threshold(base, position), schedule.threshold(base, position + 1)
    assert 0.0 <= next_ <= here <= 1.0
    assert abs(here - base) <= 0.1 + 1e-12
    assert schedule.threshold(1.0, 0) == 1.0


def test_a_threshold_out_of_reach_stays_out_of_reach() -> None:
    assert Decaying(10).threshold(1.5, 9) == 1.5
    assert Decaying(10).threshold(math.inf, 9) == math.inf
    assert Constant().threshold(0.3, 9) == 0.3


def depth(layers: tuple[int, ...], bases: tuple[float, ...], position: int, length: int) -> int:
    """Where a token leaves, 12 layers deep at most; ``score`` is the least there is."""
    schedule = DepthByPosition(length)
    for layer, base in zip(layers, bases, strict=True):
        if schedule.threshold(base, position) <= 0.0:
            return layer
    return 12


def test_depth_falls_along_a_line() -> None:
    layers = tuple(range(1, 12))
    bases = openings(layers, deepest=12, shallowest=6)
    depths = [depth(layers, bases, position, 60) for position in range(80)]
    assert depths[0] == 12
    assert depths[30] == 9
    assert depths[60:] == [6] * 20
    for position in range(60):
        assert depths[position] == math.ceil(12 - 6 * position / 60)


@given(
    st.sets(st.integers(1, 11), min_size=1),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 40),
)
def test_depth_never_rises(exits: set[int], one: int, other: int, length: int) -> None:
    layers, shallowest, deepest = tuple(sorted(exits)), min(one, other), max(one, other)
    bases = openings(layers, deepest, shallowest)
    depths = [depth(layers, bases, position, length) for position in range(2 * length)]
    assert depths == sorted(depths, reverse=True)
    assert min(depths) >= shallowest


def test_in_a_policy() -> None:
    layers = (2, 4)
    policy = ExitPolicy(
        build_judge("fixed", layers, 8),
        openings(layers, 6, 2),
        skipped_state("propagate"),
        DepthByPosition(10),
    )
    never = math.inf
    assert policy.limits(0, [0, 5, 9, 10]) == [never, never, never, 0.0]
    assert policy.limits(1, [0, 4, 5, 10]) == [never, never, 0.0, 0.0]
    assert replace(policy, schedule=Constant()).limits(1, [0, 9]) == [policy.thresholds[1]] * 2


def test_mistakes() -> None:
    with pytest.raises(UserError, match="length"):
        Decaying(0)
    with pytest.raises(UserError, match="temperature"):
        Decaying(5, math.nan)
    with pytest.raises(UserError, match="length"):
        DepthByPosition(0)
    with pytest.raises(UserError, match="deepest"):
        openings((2, 4), 3, 5)
