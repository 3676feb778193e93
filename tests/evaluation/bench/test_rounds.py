"""The timing core: order, medians, and being stopped."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.bench.rounds import Samples, measure, rotated


def recorder(order: list[str], name: str, stop_at: int | None = None) -> Callable[[], float]:
    def run() -> float:
        order.append(name)
        if len(order) == stop_at:
            raise KeyboardInterrupt
        return float(len(order))

    return run


def test_every_configuration_runs_once_a_round_in_an_order_that_turns() -> None:
    order: list[str] = []
    ticks: list[None] = []
    runs = {name: recorder(order, name) for name in "abc"}
    found = measure(runs, 4, lambda: ticks.append(None))
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert len(ticks) == 12
    assert not found.stopped
    assert found.samples["a"].values == (1.0, 6.0, 8.0, 10.0)
    assert found.median("a") == 7.0
    assert found.median("nobody") is None


@given(st.lists(st.integers(), unique=True), st.integers(0, 20))
def test_a_turned_order_is_the_same_configurations(keys: list[int], number: int) -> None:
    turned = rotated(keys, number)
    assert sorted(turned) == sorted(keys)
    if keys:
        assert turned[0] == keys[number % len(keys)]
        at = turned.index(keys[0])
        assert turned[at:] + turned[:at] == keys


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_samples(values: list[float]) -> None:
    samples = Samples(tuple(values))
    assert samples.low <= samples.median <= samples.high
    assert samples.median == median(values)
    assert {samples.low, samples.high} <= set(values)


def test_stopped_with_what_is_known() -> None:
    order: list[str] = []
    runs = {name: recorder(order, name, stop_at=5) for name in "abc"}
    found = measure(runs, 3)
    assert found.stopped
    assert {key: len(samples.values) for key, samples in found.samples.items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
    }


def test_stopped_in_the_first_round() -> None:
    order: list[str] = []
    runs = {name: recorder(order, name, stop_at=2) for name in "abc"}
    found = measure(runs, 3)
    assert found.stopped
    assert set(found.samples) == {"a"}


def test_stopped_before_anything_is_known() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure({"a": recorder([], "a", stop_at=1)}, 3)
