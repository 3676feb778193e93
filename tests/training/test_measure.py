"""AUROC against counting pairs, and thresholds against trying them all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.exits.judges import build_trained
from dynexit.training.measure import NEVER, auroc, metrics, settle, threshold_for, validate
from training.stores import HIDDEN, LAYERS, separable_store

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60)


@given(scored)
def test_auroc_counts_pairs(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([s / 6 for s, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs])
    above = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[labels] for n in scores[~labels]
    ]
    expected = sum(above) / len(above) if above else None
    assert auroc(scores, labels) == (None if expected is None else pytest.approx(expected))


@settings(deadline=None)
@given(scored, st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_threshold_is_the_lowest_precise_one(
    pairs: list[tuple[int, bool]], precision: float
) -> None:
    scores = np.array([s / 6 for s, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs])
    fine = [
        t
        for t in sorted(set(scores.tolist()))
        if (scores >= t).sum() >= 20 and labels[scores >= t].mean() >= precision
    ]
    assert threshold_for(scores, labels, precision) == (fine[0] if fine else NEVER)


def test_metrics_of_an_exit() -> None:
    scores, labels = np.array([0.9, 0.6, 0.4], np.float32), np.array([True, False, False])
    found = metrics(7, scores, labels)
    assert (found.layer, found.auroc) == (7, 1.0)
    assert found.positives == pytest.approx(1 / 3)
    assert found.accuracy == pytest.approx(2 / 3)
    assert metrics(7, scores[:0], labels[:0]).positives == 0.0


def test_tokens_that_left_are_not_measured_later(tmp_path: Path) -> None:
    store = separable_store(tmp_path)
    judge = build_trained("linear", LAYERS, HIDDEN)
    everywhere = validate(judge, store, 1, [NEVER] * 3)
    assert len({len(labels) for _, labels in everywhere}) == 1
    median = float(np.median(everywhere[0][0]))
    staying = int((everywhere[0][0] < np.float32(median)).sum())
    cut = validate(judge, store, 1, [median, NEVER, 0.0])
    assert [len(labels) for _, labels in cut] == [len(everywhere[0][1]), staying, staying]
    assert [len(labels) for _, labels in validate(judge, store, 1, [0.0] * 3)][1:] == [0, 0]


def test_settled_thresholds_keep_their_promise(tmp_path: Path) -> None:
    store = separable_store(tmp_path)
    torch.manual_seed(0)
    judge = build_trained("ffn", LAYERS, HIDDEN)
    thresholds, found = settle(judge, store, 1, 0.6)
    assert [m.layer for m in found] == list(LAYERS)
    for (scores, labels), threshold in zip(
        validate(judge, store, 1, thresholds), thresholds, strict=True
    ):
        leaving = scores >= threshold
        assert not leaving.any() or labels[leaving].mean() >= 0.6
