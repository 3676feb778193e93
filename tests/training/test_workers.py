"""Several workers: the result of one, and a job that goes on after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from workers import ENVIRONMENT, launch

COLLECT = ("--layers", "6,12", "--epochs", "2", "--max-new-tokens", "8")


def command(workers: int, out: Path, prompts: int, judge: str = "mamba") -> list[str]:
    words = ["train-exits", "reference:mamba2", "--judge", judge, "--prompts", str(prompts)]
    return [*launch(workers), *words, *COLLECT, "--out", str(out), "--json"]


def run(workers: int, out: Path, prompts: int, judge: str = "mamba") -> dict[str, object]:
    done = subprocess.run(
        command(workers, out, prompts, judge), env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # of the first worker alone
    assert isinstance(found, dict)
    return found


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("judge", ["mamba", pytest.param("linear", marks=pytest.mark.slow)])
def test_two_workers_have_the_result_of_one(judge: str, tmp_path: Path) -> None:
    alone = run(1, tmp_path / "one", 40, judge)
    both = run(2, tmp_path / "two", 40, judge)
    assert both["exits"] == alone["exits"]
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.slow
def test_two_workers_finetune_as_one(tmp_path: Path) -> None:
    """But for the rounding of sums: the same texts in each step, which skip the same layers."""
    size = ("--steps", "4", "--batch", "4", "--length", "48", "--held-out", "4", "--lr", "1e-3")
    words = ["finetune", "reference:mamba2", *size, "--layer-dropout", "0.5", "--json"]
    found = []
    for workers in (1, 2):
        out = ("--out", str(tmp_path / str(workers)))
        done = subprocess.run(
            [*launch(workers), *words, *out], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    alone, both = ([row["after"]["loss"] for row in one["exits"]] for one in found)
    before = [row["before"]["loss"] for row in found[0]["exits"]]
    assert both == pytest.approx(alone, rel=2e-3)
    assert before != pytest.approx(alone, rel=2e-2)


@pytest.mark.slow
def test_a_batch_that_workers_cannot_share(tmp_path: Path) -> None:
    words = ["finetune", "reference:mamba2", "--batch", "3", "--out", str(tmp_path / "out")]
    done = subprocess.run([*launch(2), *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "--batch 3 is not shared evenly by 2 processes" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_a_worker_is_killed(shards: int, tmp_path: Path) -> None:
    """The job ends; the same command goes on from the last shard, also with another number."""
    run(1, tmp_path / "whole", 200)
    out = tmp_path / "out"
    job = subprocess.Popen(
        command(2, out, 200), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    work, deadline = tmp_path / "out.work", time.monotonic() + 300
    while len(list(work.glob("store-*/shard-*"))) < shards:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert job.wait(timeout=300) != 0
    assert not out.exists()
    run(2 if shards == 1 else 1, out, 200)
    assert files(out) == files(tmp_path / "whole")
