"""Tables fit a terminal of 80 columns and hold what they are given."""

from __future__ import annotations

import math
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from dynexit.evaluation.consistency import Consistency
from dynexit.evaluation.measure import Measurement
from dynexit.evaluation.row import Row
from dynexit.reporting.tables import comparison_table, percent, quantity, task_table

FULL = Row("reference:mamba2", "none", "none", None, 60, 0.95, 1.0, 0.0, 0.0, 1.0)
ROWS = [
    Row("reference:mamba2", "top-probability", "recompute", 0.995, 60, 1.0, 1.0, 0.4, -0.123, 12.3),
    Row("reference:mamba2", "patience", "recompute", None, 60, 0.95, 1.0, 0.0, 0.0, 1.0),
]


def rendered(table: Table) -> str:
    console = Console(width=80, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_comparison_fits_and_is_whole() -> None:
    text = rendered(comparison_table(FULL, ROWS))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    first = next(line.split() for line in lines if "top-probability" in line)
    assert first == [
        *("top-probability", "recompute", "0.995", "100.0%", "100.0%", "40.0%", "-12.3%", "12.30x")
    ]
    unsafe = next(line.split() for line in lines if "patience" in line)
    assert unsafe[2] == "none"


def test_tasks_have_their_metrics_beside_the_full_models() -> None:
    same = Consistency(0.9, 0.95, 0.97)
    found = Measurement(5, {"em": 0.5}, {"em": 0.75}, {}, same, 0.3, 0.2, 0.1, 1.5, 90.0)
    line = next(x for x in rendered(task_table({"trivia": found})).splitlines() if "trivia" in x)
    for cell in ("5", "50.0%", "75.0%", "90.0%", "30.0%", "20.0%", "1.50x"):
        assert cell in line


def test_many_metrics_fit_and_what_was_not_timed_has_no_speedup() -> None:
    same = Consistency(0.9, 0.95, 0.97)
    metrics = {f"rouge{n}_{kind}": n / 10 for n in range(4) for kind in ("max", "diff", "acc")}
    long = Measurement(817, metrics, metrics, {}, same, 0.3, 0.2, 0.1, math.nan, math.nan)
    text = rendered(task_table({"triviaqa_evidence": long}))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "nan" not in text
    assert all(name in text for name in metrics)


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "", "0"),
        (999, "", "999"),
        (1_450_000, "", "1.45 M"),
        (23_400_000, "B", "23.4 MB"),
        (14.5e9, "B", "14.5 GB"),
        (12, "B", "12 B"),
    ],
)
def test_quantity(number: float, unit: str, text: str) -> None:
    assert quantity(number, unit) == text


def test_percent() -> None:
    assert percent(0.1234) == "12.3%"
