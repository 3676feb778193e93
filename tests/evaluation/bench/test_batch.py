"""The batch suite: rows, and depths that are mixed alike in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from evaluation.bench.quick import assert_seconds, rate, run, tiny

KEYS = {
    *("batch", "state", "seconds", "low", "high", "tokens_per_second", "speedup"),
    *("mean_exit_layer", "layer_saving"),
}


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_rows(kind: str, tmp_path: Path) -> None:
    report = run("batch", tiny(tmp_path, kind), rounds=1, sizes=(4, 1))
    assert all(set(row) == KEYS for row in report.rows)
    assert_seconds(report.rows)
    wanted = [(n, s) for n in (1, 4) for s in ("none", "recompute", "propagate")]
    assert [(row["batch"], row["state"]) for row in report.rows] == wanted
    for row in report.rows:
        assert row["tokens_per_second"] == rate(row, row["batch"])
        full = next(r for r in report.rows if r["batch"] == row["batch"] and r["state"] == "none")
        assert row["speedup"] == pytest.approx(full["seconds"] / row["seconds"])
        assert row["layer_saving"] == pytest.approx(1 - row["mean_exit_layer"] / 4)
        assert (row["layer_saving"] == 0) == (row["state"] == "none")
    depths = {(r["batch"], r["mean_exit_layer"]) for r in report.rows if r["state"] != "none"}
    assert len(depths) == 2  # the same for every state policy


def test_default_sizes(tmp_path: Path) -> None:
    report = run("batch", tiny(tmp_path, "mistral"), rounds=1, tokens=1, states=("recompute",))
    assert [row["batch"] for row in report.rows[::2]] == [1, 2, 4, 8, 16, 32]


def test_mistakes(tmp_path: Path) -> None:
    subject = tiny(tmp_path, "mistral")
    with pytest.raises(UserError, match="--sizes: give whole numbers of at least 1"):
        run("batch", subject, sizes=(4, 0))
    with pytest.raises(UserError, match=r"a batch of 1000000000000 needs .* GB of memory"):
        run("batch", subject, sizes=(10**12,))
    with pytest.raises(UserError, match="exit layer 4 is outside the model"):
        run("batch", subject, layers=(2, 4))
