"""Fixed-sequence testing: where it stops, and that its certificates hold as often as promised."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dynexit.calibration.fixed_sequence import Outcome, fixed_sequence

THRESHOLDS = (0.99, 0.9, 0.8, 0.6, 0.4, 0.2)
DRAWS, DELTA = 1000, 0.1


def constant(losses: dict[float, list[float]]) -> Callable[[float], list[float]]:
    return lambda threshold: losses[threshold]


def test_stops_at_the_first_failure() -> None:
    asked: list[float] = []
    losses = {0.9: [0.0] * 100, 0.8: [1.0] * 2 + [0.0] * 98, 0.7: [1.0] * 9 + [0.0] * 91}

    def losses_at(threshold: float) -> list[float]:
        asked.append(threshold)
        return losses[threshold]

    found = fixed_sequence(losses_at, (0.9, 0.8, 0.7, 0.6), 0.1, 0.9)
    assert asked == [0.9, 0.8, 0.7]  # what is below the first failure costs nothing
    assert found.valid
    assert found.passed == 2
    assert (found.best.threshold, found.best.empirical) == (0.8, 0.02)
    assert found.best.p_value <= 0.1 < found.tests[2].p_value
    assert found.n == 100


def test_none_valid_tells_what_would_be_needed() -> None:
    found = fixed_sequence(constant({0.9: [0.0] * 40}), (0.9, 0.5), 0.05, 0.95)
    assert not found.valid
    assert found.best.threshold == 0.9
    assert found.needed_n == 59
    hopeless = fixed_sequence(constant({0.9: [0.2] * 40}), (0.9,), 0.05, 0.95)
    assert not hopeless.valid
    assert hopeless.needed_n is None


def test_all_may_pass() -> None:
    found = fixed_sequence(lambda threshold: [0.0] * 100, (0.9, 0.5, 0.1), 0.05, 0.95, binary=True)
    assert found.passed == 3
    assert found.best.threshold == 0.1


@pytest.mark.parametrize("losses", [[], [0.5, 1.5], [-0.1], [float("nan")]])
def test_refuses_losses_outside_the_interval(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="loss"):
        fixed_sequence(lambda threshold: losses, (0.9,), 0.05, 0.95)


def test_refuses_a_share_where_the_loss_is_binary() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        fixed_sequence(lambda threshold: [0.5, 1.0], (0.9,), 0.05, 0.95, binary=True)


Draw = Callable[[np.random.Generator, float, int], NDArray[np.float64]]


def bernoulli(random: np.random.Generator, risk: float, n: int) -> NDArray[np.float64]:
    return (random.random(n) < risk).astype(float)


def spread(random: np.random.Generator, risk: float, n: int) -> NDArray[np.float64]:
    """Mostly small losses, a mean of ``risk``."""
    return random.beta(0.5, 0.5 * (1 - risk) / risk, n)


def strata(random: np.random.Generator, risk: float, n: int) -> NDArray[np.float64]:
    """Three tasks of different risk, whose mean is the risk."""
    risks = np.repeat([0.2 * risk, 0.8 * risk, 2.0 * risk], n // 3)
    return (random.random(len(risks)) < risks).astype(float)


CASES = {
    # the nastiest: all hypotheses are true and the risk is right above the bound
    "at the bound": (0.1 + 1e-9,) * len(THRESHOLDS),
    "not monotone": (0.02, 0.105, 0.03, 0.12, 0.04, 0.3),
    "rising": (0.01, 0.04, 0.08, 0.101, 0.15, 0.3),
    "safe": (0.005, 0.01, 0.02, 0.03, 0.05, 0.09),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("draw", "binary"), [(bernoulli, False), (bernoulli, True), (spread, False), (strata, True)]
)
def test_coverage(case: str, draw: Draw, binary: bool) -> None:
    """In at most a share delta of calibrations is any certified threshold above the bound.

    The losses at a threshold are drawn anew for each, which is harder than the same questions.
    """
    risks = dict(zip(THRESHOLDS, CASES[case], strict=True))
    random, bound, n = np.random.default_rng(3), 0.1, 150
    violations = certified = 0
    for _ in range(DRAWS):
        found = fixed_sequence(
            lambda threshold: draw(random, risks[threshold], n).tolist(),
            THRESHOLDS,
            bound,
            1 - DELTA,
            binary,
        )
        passed = [test.threshold for test in found.tests[: found.passed]]
        violations += any(risks[threshold] > bound for threshold in passed)
        certified += found.valid
    spare = 3 * math.sqrt(DELTA * (1 - DELTA) / DRAWS)
    assert violations / DRAWS <= DELTA + spare
    if CASES[case][0] <= 0.02:
        assert certified / DRAWS > 0.5  # a test that certifies nothing would cover as well


def test_coverage_is_not_far_below_what_is_allowed() -> None:
    """At the bound the exact test errs nearly as often as it may: the guarantee isn't idle."""
    random, n = np.random.default_rng(5), 200
    outcomes: list[Outcome] = [
        fixed_sequence(lambda t: bernoulli(random, 0.1, n).tolist(), (0.9,), 0.1, 0.9, True)
        for _ in range(DRAWS)
    ]
    share = sum(found.valid for found in outcomes) / DRAWS
    assert 0.04 < share <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / DRAWS)
