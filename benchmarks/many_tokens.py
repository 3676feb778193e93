"""A matrix with 1 to 512 tokens in bf16: our own kernels beside PyTorch's product.

    .venv/bin/python benchmarks/many_tokens.py --rows 4096 --columns 4096
    .venv/bin/python benchmarks/many_tokens.py --weights int4

Medians of interleaved rounds, in milliseconds, and how many times as fast ours are. Where the
processor has a matrix unit both use it; up to ``most_tokens`` go to ours in a model. Quantised
weights PyTorch multiplies after they were made bf16, rows by rows, which counts.
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
from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantized import QuantizedProjection, quantized_like

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
WORK = 2e9  # products in a timing, at least

Product = Callable[[torch.Tensor], torch.Tensor]


def seconds(call: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times


def projection(weights: str, rows: int, columns: int) -> QuantizedProjection:
    """A quantised matrix of random numbers."""
    bits = {"int8": 8, "int4": 4}[weights]
    made = quantized_like(Projection(columns, rows, bias=False), QuantizationConfig(bits=bits))
    with torch.no_grad():
        for number in made.parameters():
            number.random_(0, 127) if number.element_size() == 1 else number.uniform_()
    return made


def contenders(weights: str, rows: int, columns: int) -> tuple[kernels.Matrix, Product]:
    """A matrix for our kernels, and PyTorch's product with it."""
    if weights == "bf16":
        weight = torch.randn(rows, columns, dtype=torch.bfloat16)
        return kernels.Matrix(weight), lambda x: F.linear(x, weight)
    quantized = projection(weights, rows, columns)
    with torch.inference_mode():
        matrix = quantized.matrix(torch.zeros(1, columns, dtype=torch.bfloat16))
    if matrix is None:
        raise SystemExit("There are no kernels of our own here: install gcc or clang.")
    return matrix, lambda x: quantized.by_pytorch(x, 0, rows, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--weights", choices=("bf16", "int8", "int4"), default="bf16")
    options = parser.parse_args()
    matrix, theirs_of = contenders(options.weights, options.rows, options.columns)
    title = f"{options.weights}, {kernels.describe()}; up to {matrix.most_tokens} tokens in a model"
    table = Table(title=title)
    for name in ("tokens", "dynexit, ms", "PyTorch, ms", "times as fast"):
        table.add_column(name, justify="right")
    with torch.inference_mode():
        for tokens in TOKENS:
            x = torch.randn(tokens, options.columns, dtype=torch.bfloat16)
            times = max(1, int(WORK / (options.rows * options.columns * max(tokens, 8))))
            calls = (lambda x=x: kernels.multiply(x, matrix)), (lambda x=x: theirs_of(x))
            rounds = [[seconds(call, times) for call in calls] for _ in range(options.rounds)]
            ours, theirs = map(statistics.median, zip(*rounds, strict=True))
            row = f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"{theirs / ours:.2f}"
            table.add_row(str(tokens), *row)
    Console().print(table)


if __name__ == "__main__":
    main()
