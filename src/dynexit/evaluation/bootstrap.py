"""How far a figure would move with other questions: percentile bootstrap (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK = 2_000_000  # numbers drawn at once, so that memory stays small for large n


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the statistic."""

    low: float
    high: float


def interval(
    values: ArrayLike,
    statistic: Callable[[Floats], Floats],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Confidence interval of a statistic over questions, which are drawn anew with replacement.

    ``values`` [n, ...] has a row a question; ``statistic`` takes samples [r, n, ...] to [r], as
    ``mean`` and ``saving`` do. None where there is no question. Where all values are equal the
    interval is a point: it then tells nothing of what n more questions would bring.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim == 0 or len(sample) == 0:
        return None
    random, found = np.random.default_rng(seed), []
    block = max(1, _BLOCK // sample.size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, len(sample), (rows, len(sample)))
        found.append(statistic(sample[drawn]))
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), (tail, 1.0 - tail))
    return Interval(float(low), float(high))


def mean(samples: Floats) -> Floats:
    """[r, n] to [r]: the mean over questions."""
    return np.asarray(samples.mean(axis=1))


def saving(samples: Floats) -> Floats:
    """[r, n, 2] to [r]: 1 - the sum of costs / the sum of the full model's."""
    cost, full = np.moveaxis(samples.sum(axis=1), -1, 0)
    share: Floats = np.divide(cost, full, out=np.ones_like(cost), where=full > 0)
    return 1.0 - share
