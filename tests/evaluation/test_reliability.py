"""Reliability bins and calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.reliability import Bin, reliability

Tokens = list[tuple[float, bool]]


def arrays(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in tokens]), np.array([r for _, r in tokens], dtype=bool)


def test_by_hand() -> None:
    found = reliability(*arrays([(0.12, True), (0.18, False), (0.9, True), (1.0, True)]))
    first, last = found.bins
    assert first == Bin(pytest.approx(0.15), 0.5, 2)
    assert last == Bin(pytest.approx(0.95), 1.0, 2)
    assert found.ece == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)
    assert found.auroc == pytest.approx(2 / 3)


def test_of_one_kind_and_of_nothing() -> None:
    assert reliability(*arrays([(0.5, True)])).auroc is None
    none = reliability(*arrays([]))
    assert (none.bins, none.ece, none.auroc) == ((), 0.0, None)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1))
def test_bins_hold_all_tokens(tokens: Tokens) -> None:
    found = reliability(*arrays(tokens))
    assert sum(b.count for b in found.bins) == len(tokens)
    assert sum(b.count * b.right for b in found.bins) == pytest.approx(sum(r for _, r in tokens))
    assert [b.score for b in found.bins] == sorted(b.score for b in found.bins)
    # binning hides error, never makes it
    mean_gap = abs(np.mean([s for s, _ in tokens]) - np.mean([r for _, r in tokens]))
    assert mean_gap - 1e-9 <= found.ece <= 1.0
