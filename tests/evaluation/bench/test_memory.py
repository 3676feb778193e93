"""The memory suite: a fresh process for each way of decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dynexit.evaluation.bench.memory import decode_once, peak_bytes
from dynexit.evaluation.bench.subject import open_model
from evaluation.bench.quick import run, tiny

SLACK = 1 << 20  # each thread counts some pages for itself before it tells of them
KEYS = {
    *("exit_layer", "state", "weights", "caches", "imports", "peak", "low", "high"),
    *("over", "bound", "within"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_rows(kind: str, tmp_path: Path) -> None:
    subject = tiny(tmp_path, kind)
    report = run("memory", subject, rounds=1, states=("recompute",))
    assert [(row["exit_layer"], row["state"]) for row in report.rows] == [
        (4, "none"),
        (2, "recompute"),
    ]
    for row in report.rows:
        assert set(row) == KEYS
        assert row["weights"] == sum(p.nbytes for p in subject.backbone.parameters())
        assert row["peak"] > row["imports"] > row["weights"]
        assert row["over"] == row["peak"] - row["weights"] - row["caches"]
        assert row["bound"] == pytest.approx(1.05 * (row["weights"] + row["caches"] + 300e6))
        assert row["within"] == (row["peak"] <= row["bound"])


def test_one_decoding_in_this_process() -> None:
    directory = open_model("reference:mamba2").directory
    threads = torch.get_num_threads()
    told = decode_once(directory, 6, "propagate", 2, "float32", threads)
    assert set(told) == {"imports", "weights", "caches", "peak"}
    assert told["weights"] > 30e6
    assert told["peak"] >= told["imports"] > 0


def test_the_peak_never_falls() -> None:
    before = peak_bytes()
    held = torch.ones(50_000_000)
    after = peak_bytes()
    assert after >= before - SLACK
    assert after >= held.nbytes
    del held
    assert peak_bytes() >= after - SLACK
