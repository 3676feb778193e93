"""P-values of the hypothesis that a risk is above a bound, from a mean of losses in [0, 1].

A small p-value speaks against "the expected loss is above ``risk``". Valid for any number n of
independent losses in [0, 1]; they need not be spread alike, the risk is then their mean's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

_SCANNED = 200_000  # sizes whose p-values are all computed; beyond, Hoeffding's bound is as good


def hoeffding_bentkus(empirical: float, n: int, risk: float) -> float:
    """P-value for losses anywhere in [0, 1], from their mean ``empirical``.

    The smaller of Hoeffding's tail in its tight form and e times the binomial tail of Bentkus
    (Bates et al. 2021, "Distribution-free, risk-controlling prediction sets", section 3.1.2; as a
    p-value in Angelopoulos et al. 2021, "Learn then test", arXiv 2110.01052).
    """
    _check(empirical, n, risk)
    return float(_values(empirical, n, risk, math.e))


def binomial_tail(empirical: float, n: int, risk: float) -> float:
    """Exact p-value for losses that are 0 or 1: the chance of at most this many in n.

    Only for a loss that can take no other value, not for one that happens to be so on the data:
    the choice of the test must not depend on them. Never above Hoeffding-Bentkus. Where questions
    have different risks, it holds for counts of at most n x risk - 1 (Hoeffding 1956, theorem 4).
    """
    _check(empirical, n, risk)
    return float(_values(empirical, n, risk, 1.0))


def p_value(empirical: float, n: int, risk: float, binary: bool = False) -> float:
    """The p-value fit for the loss: exact for a ``binary`` one, else Hoeffding-Bentkus."""
    test = binomial_tail if binary else hoeffding_bentkus
    return test(empirical, n, risk)


def needed_n(risk: float, confidence: float, empirical: float, binary: bool = False) -> int | None:
    """How many losses with the mean ``empirical`` are enough to certify ``risk``.

    From this number on the p-value is at most 1 - ``confidence``. None where ``empirical`` is not
    below ``risk``: then no number is enough.
    """
    _check(empirical, 1, risk)
    if empirical >= risk:
        return None
    level = 1.0 - confidence
    enough = max(1, math.ceil(-math.log(level) / _relative_entropy(empirical, risk)))
    if enough > _SCANNED:
        return enough
    sizes = np.arange(1, enough + 1)
    values = _values(empirical, sizes, risk, 1.0 if binary else math.e)
    too_few = sizes[values > level]  # not monotone: a count of losses is a whole number
    return int(too_few[-1]) + 1 if len(too_few) else 1


def _values(
    empirical: float, n: int | NDArray[np.int64], risk: float, factor: float
) -> NDArray[np.float64]:
    """The smaller of Hoeffding's tail and ``factor`` times the binomial one.

    With factor 1 the latter is the smaller for every count of losses that is a whole number.
    """
    hoeffding = np.exp(-np.asarray(n) * _relative_entropy(min(empirical, risk), risk))
    tail = factor * binom.cdf(_count(empirical, n), n, risk)
    return np.asarray(np.minimum(np.minimum(hoeffding, tail), 1.0))


def _count(empirical: float, n: ArrayLike) -> NDArray[np.float64]:
    """The sum of losses rounded up, but not for a rounding error above a whole number."""
    return np.ceil(np.round(np.asarray(n) * empirical, 9))


def _relative_entropy(a: float, b: float) -> float:
    """Kullback-Leibler divergence between Bernoulli distributions of means a and b (0 < b < 1)."""
    heads = a * math.log(a / b) if a > 0.0 else 0.0
    tails = (1.0 - a) * math.log((1.0 - a) / (1.0 - b)) if a < 1.0 else 0.0
    return max(0.0, heads + tails)


def _check(empirical: float, n: int, risk: float) -> None:
    if not 0.0 < risk < 1.0:
        raise ValueError(f"a bound on the risk must be between 0 and 1, not {risk}")
    if not 0.0 <= empirical <= 1.0:
        raise ValueError(f"the mean of losses in [0, 1] cannot be {empirical}")
    if n < 1:
        raise ValueError("a p-value needs at least one loss")
