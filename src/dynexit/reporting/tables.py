"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from dynexit.evaluation.measure import Measurement
from dynexit.evaluation.row import Row


def comparison_table(rows: Sequence[Row], full: Sequence[Row]) -> Table:
    """Models, each with its full depth first, then its judges and state policies."""
    table = Table(title="Early exits against the full model")
    for name in ("model", "judge", "state"):
        table.add_column(name)
    for name in ("threshold", "accuracy", "consistency", "layer saving", "FLOP saving", "speedup"):
        table.add_column(name, justify="right")
    for whole in full:
        table.add_section()
        for row in [whole, *(row for row in rows if row.model == whole.model)]:
            table.add_row(*_cells(row), style="bold" if row is whole else None)
    return table


def _cells(row: Row) -> list[str]:
    judge, state = (row.judge, row.state) if row.judge != "none" else ("full model", "")
    threshold = "" if row.judge == "none" else "none safe"
    return [
        row.model,
        judge,
        state,
        threshold if row.threshold is None else f"{row.threshold:g}",
        percent(row.accuracy),
        percent(row.consistency),
        percent(row.layer_saving),
        percent(row.flop_saving),
        f"{row.speedup:.2f}x",
    ]


def task_table(results: Mapping[str, Measurement]) -> Table:
    """Tasks, one a line, with their metrics beside the full model's."""
    metrics = list(dict.fromkeys(name for m in results.values() for name in m.metrics))
    table = Table()
    table.add_column("task")
    for name in ("n", *metrics, *(f"full {name}" for name in metrics)):
        table.add_column(name, justify="right")
    for name in ("consistency", "layer saving", "FLOP saving", "speedup"):
        table.add_column(name, justify="right")
    for task, found in results.items():
        table.add_row(
            task,
            str(found.n),
            *(percent(found.metrics[name]) if name in found.metrics else "" for name in metrics),
            *(
                percent(found.full_metrics[name]) if name in found.full_metrics else ""
                for name in metrics
            ),
            percent(found.consistency.answers),
            percent(found.layer_saving),
            percent(found.flop_saving),
            f"{found.speedup:.2f}x",
        )
    return table


def percent(share: float) -> str:
    """0.123 as "12.3%"."""
    return f"{100 * share:.1f}%"


def quantity(number: float, unit: str = "") -> str:
    """12 345 678 as "12.3 M"; with a unit, "12.3 MB"."""
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= scale:
            return f"{number / scale:.3g} {prefix}{unit}"
    return f"{number:g} {unit}".rstrip()
