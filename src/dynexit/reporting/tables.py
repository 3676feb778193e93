"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dynexit.evaluation.measure import Measurement
from dynexit.evaluation.row import Row


def comparison_table(full: Row, rows: Sequence[Row]) -> Table:
    """A model at full depth, then its judges and state policies; fits 80 columns."""
    table = Table(
        title=f"{full.model}: early exits against the full model, {full.n} questions",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for name in ("judge", "state"):
        table.add_column(name, no_wrap=True, vertical="bottom")
    for name in ("thres-\nhold", "accuracy", "consistency", "layer\nsaving", "FLOP\nsaving"):
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True)
    table.add_column("speedup", justify="right", vertical="bottom", no_wrap=True)
    for row in (full, *rows):
        table.add_row(*_cells(row), style="bold" if row is full else None)
    return table


def _cells(row: Row) -> list[str]:
    whole = row.judge == "none"
    threshold = "" if whole else "none"
    return [
        "full model" if whole else row.judge,
        "" if whole else row.state,
        threshold if row.threshold is None else f"{row.threshold:g}",
        percent(row.accuracy),
        percent(row.consistency),
        percent(row.layer_saving),
        percent(row.flop_saving),
        f"{row.speedup:.2f}x",
    ]


def task_table(results: Mapping[str, Measurement]) -> Table:
    """Tasks with their metrics beside the full model's, one metric a line; fits 80 columns."""
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in ("task", "metric"):
        table.add_column(name, no_wrap=name == "metric", vertical="bottom", overflow="fold")
    for name in ("n", "with\nexits", "full\nmodel", "consis-\ntency", "layer\nsaving"):
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True)
    for name in ("FLOP\nsaving", "speedup"):
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True)
    for task, found in results.items():
        said = [task, str(found.n), *_against_full(found)]
        for metric, value in found.metrics.items():
            full = percent(found.full_metrics[metric]) if metric in found.full_metrics else ""
            table.add_row(said[0], metric, said[1], percent(value), full, *said[2:])
            said = [""] * len(said)  # what is the task's stands on its first line only
    return table


def _against_full(found: Measurement) -> list[str]:
    return [
        percent(found.consistency.answers),
        percent(found.layer_saving),
        percent(found.flop_saving),
        "" if isnan(found.speedup) else f"{found.speedup:.2f}x",
    ]


def percent(share: float) -> str:
    """0.123 as "12.3%"."""
    return f"{100 * share:.1f}%"


def quantity(number: float, unit: str = "") -> str:
    """12 345 678 as "12.3 M"; with a unit, "12.3 MB"."""
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= scale:
            return f"{number / scale:.3g} {prefix}{unit}"
    return f"{number:g} {unit}".rstrip()
