"""Bins of several tasks together."""

from __future__ import annotations

import pytest

from dynexit.reporting.report.reliability_plot import merge_bins, weighted
from dynexit.reporting.report.sweep import Reliability


def row(ece: float | None, *bins: tuple[float, float, int]) -> Reliability:
    return Reliability("m", "mamba", 1, 0, "t", 3, 12, bins, None, ece)


def test_bins_of_like_score_become_their_weighted_mean() -> None:
    merged = merge_bins(
        [row(0.1, (0.52, 0.2, 1), (1.0, 1.0, 4)), row(0.1, (0.58, 0.6, 3), (0.1, 0.0, 0))]
    )
    assert [b[2] for b in merged] == [4, 4]
    assert merged[0][:2] == pytest.approx((0.565, 0.5))
    assert merged[1][:2] == (1.0, 1.0)


def test_means_are_weighted_by_tokens_and_leave_out_what_is_unknown() -> None:
    rows = [row(0.1, (0.5, 0.5, 1)), row(0.5, (0.5, 0.5, 3)), row(None, (0.5, 0.5, 9))]
    assert weighted(rows, "ece") == pytest.approx(0.4)
    assert weighted(rows, "auroc") is None
