"""Benchmarks as tables: what is shown of rows, also where they differ."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.suites import BenchReport
from dynexit.reporting.bench_table import bench_table, machine_lines

MACHINE = {
    "cpu": "Some CPU",
    "threads": 2,
    "torch": "2.13.0",
    "date": "2026-01-31",
    "read_gb_per_s": 45.67,
    "matvec_gb_per_s": {"bf16": {"torch": 31.0, "dynexit": 44.04}},
    "matvec_shape": [14336, 4096],
}


def shown(suite: str, rows: list[dict[str, Any]], machine: dict[str, Any] = MACHINE) -> str:
    report = BenchReport(suite, "some-model", "bf16", Plan(rounds=3), machine, rows, False)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(*machine_lines(report), sep="\n")
        console.print(bench_table(report))
    return capture.get()


def test_a_time_with_its_spread() -> None:
    row = {
        **{"exit_layer": 4, "state": "none", "judge": "none", "seconds": 0.1},
        **{"low": 0.095, "high": 0.105, "speedup": 1.0, "byte_share": 1.0},
        **{"realised_saving": None},
    }
    text = shown("depth", [row, row | {"judge": "fixed", "realised_saving": 0.987}])
    assert "Some CPU, 2 threads, PyTorch 2.13.0, 2026-01-31" in text
    assert "reads 45.7 GB/s" in text
    assert "14336 x 4096 times a vector, GB/s: bf16 31.0 (torch) 44.0 (dynexit)" in text
    assert "depth: some-model, bf16, 3 rounds" in text
    assert "100 ±5%" in text
    assert "1.00x" in text
    assert "0.99" in text
    assert "judge" not in text  # that every exit is a fixed one is understood
    assert "margin" in shown("depth", [row, row | {"judge": "margin"}])


def test_rows_that_differ() -> None:
    full = {"row": "a", "seconds_per_token": 0.5, "low": 0.5, "high": 0.5, "candidates": {"x": 1}}
    text = shown("peers", [full, {"row": "b", "reason": "not installed"}])
    assert "500 ±0%" in text
    assert "not installed" in text
    assert "candidates" not in text


def test_bytes_and_yes() -> None:
    row = {"weights": 2_000_000_000, "peak": 2.5e9, "low": 2.4e9, "high": 2.6e9, "within": True}
    text = shown("memory", [row])
    for part in ("2 GB", "2.5 GB ±4%", "yes"):
        assert part in text


def test_nothing_known() -> None:
    unknown = MACHINE | {"read_gb_per_s": None, "matvec_gb_per_s": {}}
    text = shown("depth", [], unknown)
    assert "GB/s" not in text
