"""Several workers: the result of one, and a job that goes on after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COLLECT = ("--layers", "6,12", "--epochs", "2", "--max-new-tokens", "8")


def command(workers: int, out: Path, prompts: int, judge: str = "mamba") -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    words = ["-m", "dynexit", "train-exits", "reference:mamba2", "--judge", judge]
    asked = [*words, "--prompts", str(prompts), *COLLECT, "--out", str(out), "--json"]
    return [sys.executable, *(launch if workers > 1 else []), *asked]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


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
