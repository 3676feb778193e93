"""What a second worker gives: an exit set collected and fitted by one process and by two.

    python benchmarks/workers.py --model reference:mamba2 --prompts 400

Every process has one thread. Each round trains exits once with one worker and once with two that
``torchrun`` starts, and times both parts, without starting and loading. The limit is the machine's
own: how much of two unrelated processes that collect at the same time gets done in the time of one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from dynexit.commands.output import counting
from dynexit.files import read_json, write_json
from dynexit.models import load_model
from dynexit.training.recipe import ExitRecipe
from dynexit.training.train import Means, collect_store, fit_exits
from dynexit.workers import joined_workers

Seconds = dict[str, float]


def main() -> None:
    options = _options()
    if options.out is not None:
        work(options)
        return
    one: list[Seconds] = []
    two: list[Seconds] = []
    beside: list[Seconds] = []
    with counting("workers", options.rounds) as tick:
        for _ in range(options.rounds):
            one += finished([started(options, 1)])
            two += finished([started(options, 2)])
            beside += finished([started(options, 1), started(options, 1)])
            tick()
    Console().print(table(options.model, one, two, beside))
    if options.json is not None:
        found = {"one": one, "two": two, "beside": beside}
        write_json(options.json, {"model": options.model, **found})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference:mamba2")
    parser.add_argument("--judge", default="mamba")
    parser.add_argument("--data", type=Path, help="prompts; default: a reference model's own")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--shard-tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where all seconds go")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)  # given to the workers
    return parser.parse_args()


class Job:
    """Workers on their way, and the folder that they work in."""

    def __init__(self, command: list[str]) -> None:
        self.place = TemporaryDirectory()
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--out", self.place.name], env={**os.environ, **quiet}
        )


def started(options: argparse.Namespace, count: int) -> Job:
    """A job of ``count`` workers of this script."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    given = [
        *("--model", options.model, "--judge", options.judge, "--prompts", str(options.prompts)),
        *("--epochs", str(options.epochs), "--shard-tokens", str(options.shard_tokens)),
        *(() if options.data is None else ("--data", str(options.data))),
    ]
    return Job([sys.executable, *(torchrun if count > 1 else []), __file__, *given])


def finished(jobs: list[Job]) -> list[Seconds]:
    """Wait for jobs, and what each measured."""
    found = []
    for job in jobs:
        if job.process.wait() != 0:
            raise SystemExit(f"a worker ended with exit code {job.process.returncode}")
        found.append(read_json(Path(job.place.name) / "seconds.json"))
        job.place.cleanup()
    return found


def work(options: argparse.Namespace) -> None:
    """A worker: collect and fit, and write down how long each took."""
    recipe = ExitRecipe(
        judge=options.judge,
        prompts=options.prompts,
        epochs=options.epochs,
        shard_tokens=options.shard_tokens,
    )
    with joined_workers() as workers:
        model = load_model(options.model)
        workers.wait()
        began = time.perf_counter()
        means = Means(workers=workers)
        store = collect_store(model, recipe, options.out, options.data, means)
        collected = time.perf_counter()
        fit_exits(model, store, recipe, options.out / "exits", options.out, workers)
        workers.wait()
        fitted = time.perf_counter()
        if workers.first:
            seconds = {"collection": collected - began, "fit": fitted - collected}
            write_json(options.out / "seconds.json", seconds)


def table(model: str, one: list[Seconds], two: list[Seconds], beside: list[Seconds]) -> Table:
    """Medians over the rounds, and how many times as fast two are."""
    shown = Table(title=f"{model}, {torch.get_num_threads()} cores, one thread a process")
    for name in ("part", "one worker", "two workers", "times as fast", "the machine's limit"):
        shown.add_column(name, justify="left" if name == "part" else "right")
    for part in one[0]:
        alone, together, apart = (median(s[part] for s in jobs) for jobs in (one, two, beside))
        ratios = (f"{alone / together:.2f}x", f"{2 * alone / apart:.2f}x")
        shown.add_row(part, f"{alone:.1f} s", f"{together:.1f} s", *ratios)
    return shown


if __name__ == "__main__":
    main()
