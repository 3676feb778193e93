"""The context suite: state grows with the text in attention and stays flat in Mamba."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from checkpoints import CONTEXT
from dynexit.errors import UserError
from dynexit.evaluation.bench.states import fill, state_bytes
from dynexit.evaluation.bench.subject import open_model
from evaluation.bench.quick import assert_seconds, rate, run, tiny

KEYS = {
    *("context", "seconds", "low", "high", "tokens_per_second", "state_bytes"),
    *("state_bytes_per_token", "slowdown"),
}


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_rows(kind: str, tmp_path: Path) -> None:
    report = run("context", tiny(tmp_path, kind), sizes=(32, 128, 64))
    assert all(set(row) == KEYS for row in report.rows)
    assert_seconds(report.rows)
    assert [row["context"] for row in report.rows] == [32, 64, 128]
    assert report.rows[0]["slowdown"] == 1.0
    for row in report.rows:
        assert row["tokens_per_second"] == rate(row)
    held = [row["state_bytes"] for row in report.rows]
    moved = [row["state_bytes_per_token"] for row in report.rows]
    if kind == "mamba2":
        assert len(set(held)) == len(set(moved)) == 1
    else:
        assert held == [held[0], 2 * held[0], 4 * held[0]]
        assert moved[0] < moved[1] < moved[2]


def test_default_sizes_as_far_as_the_model_goes(tmp_path: Path) -> None:
    mistral = run("context", tiny(tmp_path, "mistral"), rounds=1, tokens=1)
    assert [row["context"] for row in mistral.rows] == [128, CONTEXT - 3]  # 3 tokens to decode
    mamba = run("context", tiny(tmp_path, "mamba2"), rounds=1, tokens=1)
    assert [row["context"] for row in mamba.rows] == [128, 512, 2048, 8192, 32768]


def test_a_short_model_is_measured_at_its_end(tmp_path: Path) -> None:
    report = run("context", tiny(tmp_path, "mistral"), rounds=1, tokens=CONTEXT - 20)
    assert [row["context"] for row in report.rows] == [20 - 2]  # 2 to warm up


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this model has room for 507"):
        run("context", tiny(tmp_path, "mistral"), sizes=(128, 508))
    with pytest.raises(UserError, match="leave no room"):
        run("context", tiny(tmp_path, "mistral"), tokens=CONTEXT)


def test_filled_states(tmp_path: Path) -> None:
    for kind in ("mistral", "mamba2"):
        subject = tiny(tmp_path, kind)
        cache = subject.backbone.new_cache(1, 50)
        fill(cache)
        assert state_bytes(subject.config, 50, None) == cache.nbytes()
        for state in cache.states:
            assert state is not None
            for tensor in state.tensors():
                assert tensor.isfinite().all()
                assert 0.05 < tensor.float().std() < 0.2


def test_states_of_a_wider_type() -> None:
    subject = open_model("reference:mistral")
    narrow, wide = (state_bytes(subject.config, 9, t) for t in (None, torch.float32))
    assert wide == 2 * narrow
