"""How far a judge's scores are what they claim: the chance that the exit's token is the full
model's (reliability diagram and expected calibration error: Guo et al. 2017, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynexit.training.measure import auroc

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Tokens with scores close to one another: mean score, share that is right, and how many."""

    score: float
    right: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """``bins`` of equal width over [0, 1], without the empty ones. ``ece`` is the mean distance of
    score and share, weighted by tokens; ``auroc`` None where all tokens are right or all wrong."""

    bins: tuple[Bin, ...]
    ece: float
    auroc: float | None


def reliability(
    scores: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Of tokens with ``scores`` [n] in [0, 1], of which ``right`` [n] have the full model's token
    as the exit's best. A score of exactly 1 belongs to the last bin; one that is no number claims
    nothing and is left out."""
    valid = np.isfinite(scores)
    scores, right = scores[valid], right[valid]
    where = np.minimum((scores * bins).astype(int), bins - 1)
    found = tuple(
        Bin(float(scores[here].mean()), float(right[here].mean()), int(here.sum()))
        for index in range(bins)
        if (here := where == index).any()
    )
    total = sum(b.count for b in found)
    distance = sum(b.count * abs(b.score - b.right) for b in found)
    return Reliability(found, distance / total if total else 0.0, auroc(scores, right))
