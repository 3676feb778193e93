"""A 7 B backbone on a small machine: random weights shaped as Mistral 7B or Codestral Mamba 7B.

    python benchmarks/seven_b.py --shape mistral-7b --work /tmp/seven-b

writes the 14.5 GB checkpoint (once) and runs the suites depth and memory of ``dynexit bench`` on
it, with exits after a quarter, half and three quarters of the layers. Two tables, and one JSON file
for each suite beside the checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from dynexit.commands.output import counting
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.subject import open_shape
from dynexit.evaluation.bench.suites import bench
from dynexit.files import write_json
from dynexit.reporting.bench_table import bench_table, machine_lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=("mistral-7b", "mamba2-7b"), default="mistral-7b")
    parser.add_argument("--work", type=Path, required=True, help="folder with 15 GB to spare")
    parser.add_argument("--state", default="recompute", help="state policy of the exits")
    parser.add_argument("--tokens", type=int, default=8, help="decoded in each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    subject = open_shape(options.shape, options.work, counting)
    plan = Plan(options.rounds, options.tokens, states=(options.state,))
    console = Console(highlight=False)
    for suite in ("depth", "memory"):
        report = bench(suite, subject, plan, counting)
        write_json(options.work / f"{options.shape}-{suite}.json", report.as_json())
        console.print(*machine_lines(report), sep="\n", style="dim")
        console.print(bench_table(report))


if __name__ == "__main__":
    main()
