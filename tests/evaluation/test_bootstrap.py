"""Bootstrap intervals: against theory, another implementation, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dynexit.evaluation.bootstrap import interval, mean, saving


def test_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, 1.0, 80)
    ours = interval(values, mean, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile"
    ).confidence_interval
    assert ours is not None
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    found = [interval(random.random(100) < 0.7, mean, resamples=400) for _ in range(300)]
    covered = np.mean([f is not None and f.low <= 0.7 <= f.high for f in found])
    assert 0.90 <= covered <= 0.99


def test_saving_is_of_sums_and_not_a_mean_of_shares() -> None:
    costs = np.array([[1.0, 2.0], [90.0, 100.0]])
    assert saving(costs[None]) == pytest.approx(1.0 - 91.0 / 102.0)
    found = interval(costs, saving)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.1, 0.5))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0.5, 0.99))
def test_interval_lies_within_the_values(values: list[float], confidence: float) -> None:
    found = interval(values, mean, confidence=confidence, resamples=50)
    assert found is not None
    slack = 1e-6 * (1.0 + max(map(abs, values)))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack


def test_same_seed_same_interval_and_blocks_do_not_matter() -> None:
    values = np.random.default_rng(1).random(5_000)  # more than one block of resamples
    first = interval(values, mean, seed=4)
    assert first == interval(values, mean, seed=4)
    assert first != interval(values, mean, seed=5)


def test_edges() -> None:
    assert interval([], mean) is None
    alone = interval([0.3], mean)
    assert alone is not None
    assert (alone.low, alone.high) == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="confidence"):
        interval([1.0], mean, confidence=1.0)
    assert saving(np.zeros((1, 3, 2))) == pytest.approx(0.0)  # nothing was decoded
