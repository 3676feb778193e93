"""A matrix in bf16 with 1 to 512 tokens: our own kernels beside PyTorch's product.

    .venv/bin/python benchmarks/many_tokens.py --rows 4096 --columns 4096

Medians of interleaved rounds, in milliseconds, and how many times as fast ours are. Where the
processor has a matrix unit both use it; up to ``most_tokens`` go to ours in a model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from dynexit.models import kernels

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
WORK = 2e9  # products in a timing, at least


def seconds(call: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    weight = torch.randn(options.rows, options.columns, dtype=torch.bfloat16)
    matrix = kernels.Matrix(weight)
    limit = kernels.most_tokens(torch.bfloat16)
    table = Table(title=f"{kernels.describe()}; up to {limit} tokens in a model")
    for name in ("tokens", "dynexit, ms", "PyTorch, ms", "times as fast"):
        table.add_column(name, justify="right")
    with torch.inference_mode():
        for tokens in TOKENS:
            x = torch.randn(tokens, options.columns, dtype=torch.bfloat16)
            times = max(1, int(WORK / (weight.numel() * max(tokens, 8))))
            calls = (lambda x=x: kernels.multiply(x, matrix)), (lambda x=x: F.linear(x, weight))
            rounds = [[seconds(call, times) for call in calls] for _ in range(options.rounds)]
            ours, theirs = map(statistics.median, zip(*rounds, strict=True))
            row = f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"{theirs / ours:.2f}"
            table.add_row(str(tokens), *row)
    Console().print(table)


if __name__ == "__main__":
    main()
