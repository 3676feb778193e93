"""The prefill suite: prompts by length in the usual chunks, and the longest in all chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from evaluation.bench.quick import assert_seconds, rate, run, tiny


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_rows(kind: str, tmp_path: Path) -> None:
    report = run("prefill", tiny(tmp_path, kind), sizes=(100, 300))
    assert_seconds(report.rows)
    read = [(row["prompt"], row["chunk"]) for row in report.rows]
    assert read == [(100, 100), (300, 300), (300, 64), (300, 128), (300, 256)]
    for row in report.rows:
        assert set(row) == {"prompt", "chunk", "seconds", "low", "high", "tokens_per_second"}
        assert row["tokens_per_second"] == rate(row, row["prompt"])


def test_default_sizes_as_far_as_the_model_goes(tmp_path: Path) -> None:
    report = run("prefill", tiny(tmp_path, "mistral", depth=2), rounds=1)
    assert [row["prompt"] for row in report.rows[:2]] == [128, 512]
    assert {row["chunk"] for row in report.rows if row["prompt"] == 512} == {64, 128, 256, 512}


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--sizes: 513 prompt tokens are too many"):
        run("prefill", tiny(tmp_path, "mistral"), sizes=(513,))
