"""Fixed exits on a CUDA device: what each saves of the time of full depth, with CUDA graphs and
without.

    python benchmarks/gpu.py --shape mistral-1b --work /tmp/shapes --json found.json

writes a checkpoint of that shape with random bf16 weights (once). Batch 1, greedy; all
configurations run once a round, in an order that turns. The realised saving is the share of time
saved over the share of layers skipped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dynexit.commands.output import counting
from dynexit.evaluation.bench.decoding import leave_at, seconds_per_step
from dynexit.evaluation.bench.rounds import Found, measure
from dynexit.evaluation.bench.subject import Subject, open_shape
from dynexit.files import write_json
from dynexit.inference.cuda_graphs import SWITCH

Key = tuple[int, bool]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="mistral-1b")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--tokens", type=int, default=64, help="decoded in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write what was found there")
    options = parser.parse_args()
    subject = replace(open_shape(options.shape, options.work, counting), device="cuda")
    depth = subject.config.depth
    layers = (depth, *(depth * share // 4 for share in (3, 2, 1)))
    runs = {
        (layer, graphs): _run(subject, layer, graphs, options.tokens)
        for layer in layers
        for graphs in (False, True)
    }
    measure(runs, 1)  # libraries load, kernels compile
    found = measure(runs, options.rounds)
    rows = [_row(subject, found, key) for key in runs]
    _show(subject, rows)
    if options.json:
        device = torch.cuda.get_device_name()
        write_json(options.json, {"device": device, "shape": options.shape, "rows": rows})


def _run(subject: Subject, layer: int, graphs: bool, tokens: int) -> Callable[[], float]:
    def run() -> float:
        os.environ[SWITCH] = "on" if graphs else "off"
        policy = leave_at(subject, layer, "recompute")
        with torch.inference_mode():
            return seconds_per_step(subject.backbone, policy, tokens)

    return run


def _row(subject: Subject, found: Found, key: Key) -> dict[str, float | int | bool | None]:
    layer, graphs = key
    depth = subject.config.depth
    seconds, full = found.median(key) or 0.0, found.median((depth, graphs)) or 0.0
    skipped = 1 - layer / depth
    return {
        "exit_layer": layer,
        "graphs": graphs,
        "tokens_per_second": 1 / seconds,
        "speedup": full / seconds,
        "realised_saving": (1 - seconds / full) / skipped if skipped else None,
        "weights_gb_per_second": subject.weight_bytes / seconds / 1e9 if not skipped else None,
    }


def _show(subject: Subject, rows: list[dict[str, float | int | bool | None]]) -> None:
    table = Table(title=f"{subject.name} on {torch.cuda.get_device_name()}")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        cells = (f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
        table.add_row(*(cell if cell != "None" else "" for cell in cells))
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
