"""The controller of load shedding, and the levels that it moves between."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.serving.running import Running

from dynexit.exits.policy import ExitPolicy
from dynexit.models import Model
from dynexit.serving.depths import Depths, Rung
from dynexit.serving.server import Plan
from dynexit.serving.shedding import EASY, Shedder

TARGET = 0.05
SECONDS = st.floats(0.0, 10.0)


@given(times=st.lists(SECONDS, max_size=300), levels=st.integers(1, 6))
def test_levels_stay_in_range_and_move_one_at_a_time(times: list[float], levels: int) -> None:
    shedder = Shedder(TARGET, levels)
    since = 0
    for seconds in times:
        before, after = shedder.level, shedder.observe(seconds)
        since += 1
        assert 0 <= after < levels
        if after != before:
            assert abs(after - before) == 1
            assert since >= (shedder.up_after if after > before else shedder.down_after)
            since = 0


@given(slow=st.floats(1.01 * TARGET, 10.0), levels=st.integers(1, 6))
def test_late_tokens_bring_it_to_the_top(slow: float, levels: int) -> None:
    shedder = Shedder(TARGET, levels)
    for _ in range(levels * shedder.up_after):
        shedder.observe(slow)
    assert shedder.level == levels - 1


@given(fast=st.floats(0.0, 0.99 * EASY * TARGET), times=st.lists(SECONDS, max_size=100))
def test_tokens_in_time_bring_it_back(fast: float, times: list[float]) -> None:
    shedder = Shedder(TARGET, 4)
    for seconds in times:
        shedder.observe(seconds)
    for _ in range(10 * shedder.down_after):  # what was slow before must be forgotten first
        shedder.observe(fast)
    assert shedder.level == 0


@given(between=st.floats(1.01 * EASY * TARGET, 0.99 * TARGET), level=st.integers(0, 3))
def test_between_it_stays(between: float, level: int) -> None:
    shedder = Shedder(TARGET, 4, level=level)
    assert {shedder.observe(between) for _ in range(500)} == {level}


@given(times=st.lists(SECONDS, max_size=200))
def test_rest_brings_it_back(times: list[float]) -> None:
    shedder = Shedder(TARGET, 4)
    for seconds in times:
        shedder.observe(seconds)
    assert [shedder.rest() for _ in range(4)][-1] == 0


def test_levels_leave_earlier_and_earlier(depths: Depths) -> None:
    assert depths.policy is not None
    strict = replace(depths.policy, thresholds=(2.0,) * len(depths.policy.layers))
    levels = Depths(strict, depths.ladder).levels
    assert levels == (strict.thresholds, *(rung.thresholds for rung in depths.ladder))
    mixed = (Rung(0.1, (0.9, 0.9)), Rung(0.2, (0.8, 0.95)), Rung(0.3, (0.9, 0.9)))
    assert Depths(strict, mixed).levels == (strict.thresholds, mixed[0].thresholds)
    assert Depths().levels == ()


def test_under_load_tokens_leave_earlier(start: object, plan: Plan, model: Model) -> None:
    policy = plan.depths.policy
    assert policy is not None
    assert callable(start)
    strict: ExitPolicy = replace(policy, thresholds=(2.0,) * len(policy.layers))
    shedding = replace(plan, depths=replace(plan.depths, policy=strict), target=1e-6)
    running: Running = start(shedding)
    body = {"model": "reference:mistral", "prompt": "Story: Ann", "temperature": 0}
    first = running.client().completions.create(**body, max_tokens=100)
    last = running.client().completions.create(**body, max_tokens=40)
    own = running.client().completions.create(**body, max_tokens=40, extra_body={"threshold": 1})
    assert set(first.dynexit["exit_layers"]) == {12}  # a text keeps the level it began with
    assert min(last.dynexit["exit_layers"]) < 12
    assert set(own.dynexit["exit_layers"]) == {12}
