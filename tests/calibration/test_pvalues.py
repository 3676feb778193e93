"""P-values: bounds, order, exact values, and that they are valid where the risk is at the bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dynexit.calibration.pvalues import binomial_tail, hoeffding_bentkus, needed_n, p_value

sizes = st.integers(1, 2000)
risks = st.floats(0.001, 0.999)
shares = st.floats(0.0, 1.0)
binaries = st.booleans()


@given(shares, sizes, risks, binaries)
def test_in_unit_interval(empirical: float, n: int, risk: float, binary: bool) -> None:
    assert 0.0 <= p_value(empirical, n, risk, binary) <= 1.0


@given(shares, shares, sizes, risks, binaries)
def test_grows_with_the_empirical_risk(
    one: float, other: float, n: int, risk: float, binary: bool
) -> None:
    low, high = sorted((one, other))
    slack = 1e-12  # of floating point
    assert p_value(low, n, risk, binary) <= p_value(high, n, risk, binary) + slack


@given(shares, sizes, risks, risks, binaries)
def test_falls_with_the_bound(
    empirical: float, n: int, one: float, other: float, binary: bool
) -> None:
    low, high = sorted((one, other))
    assert p_value(empirical, n, high, binary) <= p_value(empirical, n, low, binary) + 1e-12


@given(st.integers(1, 400), risks, binaries)
def test_super_uniform_for_binary_losses_at_the_bound(n: int, risk: float, binary: bool) -> None:
    """P(p-value <= u) <= u, exactly, over all counts of losses with the risk at the bound."""
    counts = np.arange(n + 1)
    chances = binom.pmf(counts, n, risk)
    values = np.array([p_value(k / n, n, risk, binary) for k in counts])
    for level in (0.001, 0.01, 0.05, 0.1, 0.3, 0.7):
        assert chances[values <= level].sum() <= level * (1 + 1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.2, 1.8), (1.0, 19.0), (5.0, 45.0)])
def test_super_uniform_for_spread_losses(a: float, b: float) -> None:
    """Beta losses with their mean at the bound: few p-values are small, with 4 sigma to spare."""
    random, n, draws = np.random.default_rng(0), 120, 4000
    risk = a / (a + b)
    means = random.beta(a, b, (draws, n)).mean(1)
    values = np.array([hoeffding_bentkus(float(mean), n, risk) for mean in means])
    for level in (0.01, 0.05, 0.2):
        spare = 4 * math.sqrt(level * (1 - level) / draws)
        assert (values <= level).mean() <= level + spare


def test_exact_values() -> None:
    assert binomial_tail(0.0, 59, 0.05) == pytest.approx(0.95**59)
    assert hoeffding_bentkus(0.0, 59, 0.05) == pytest.approx(0.95**59)  # Hoeffding's part
    # Bentkus' part is the smaller here: e x P(Bin(100, 0.1) <= 2)
    below = sum(math.comb(100, k) * 0.1**k * 0.9 ** (100 - k) for k in range(3))
    assert binomial_tail(0.02, 100, 0.1) == pytest.approx(below)
    assert hoeffding_bentkus(0.02, 100, 0.1) == pytest.approx(math.e * below)
    assert hoeffding_bentkus(0.3, 100, 0.1) == 1.0


@given(st.integers(1, 500), st.data(), risks)
def test_exact_is_never_above_the_bound(n: int, data: st.DataObject, risk: float) -> None:
    share = data.draw(st.integers(0, n)) / n
    assert binomial_tail(share, n, risk) <= hoeffding_bentkus(share, n, risk) * (1 + 1e-9)


def test_a_sum_just_above_a_whole_number_by_rounding_counts_as_it() -> None:
    share = sum([0.1] * 3) / 10  # 0.30000000000000004 / 10
    assert binomial_tail(share, 100, 0.1) == binomial_tail(0.03, 100, 0.1)


def test_needed_by_hand() -> None:
    assert needed_n(0.05, 0.95, 0.0) == 59  # 0.95^59 < 0.05 < 0.95^58
    assert needed_n(0.01, 0.95, 0.0, binary=True) == 299
    assert needed_n(0.05, 0.95, 0.05) is None
    assert needed_n(0.05, 0.95, 0.5) is None


@given(risks, st.floats(0.5, 0.999), st.floats(0.0, 0.9), binaries)
def test_needed_is_enough_and_one_less_is_not(
    risk: float, confidence: float, part: float, binary: bool
) -> None:
    empirical, level = risk * part, 1.0 - confidence
    n = needed_n(risk, confidence, empirical, binary)
    assert n is not None
    more = [n, n + 1, n + 7, 2 * n, 10 * n]
    assert all(p_value(empirical, m, risk, binary) <= level * (1 + 1e-9) for m in more)
    assert n == 1 or n > 200_000 or p_value(empirical, n - 1, risk, binary) > level * (1 - 1e-9)


@pytest.mark.parametrize(
    ("empirical", "n", "risk"), [(0.1, 5, 0.0), (0.1, 5, 1.0), (1.1, 5, 0.5), (-0.1, 5, 0.5)]
)
def test_refuses_what_is_no_share(empirical: float, n: int, risk: float) -> None:
    with pytest.raises(ValueError, match=r"risk|mean"):
        p_value(empirical, n, risk)
    with pytest.raises(ValueError, match="at least one"):
        p_value(0.1, 0, 0.5)
