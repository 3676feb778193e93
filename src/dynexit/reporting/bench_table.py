"""The rows of a benchmark as a table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dynexit.evaluation.bench.suites import BenchReport
from dynexit.reporting.tables import percent, quantity

Row = dict[str, Any]


def machine_lines(report: BenchReport) -> Iterator[str]:
    """The machine and its limits, in words."""
    found = report.machine
    yield f"{found['cpu']}, {found['threads']} threads, PyTorch {found['torch']}, {found['date']}"
    if found["read_gb_per_s"] is not None:
        yield f"reads {found['read_gb_per_s']:.1f} GB/s"
    rows, columns = found["matvec_shape"]
    each = [
        f"{dtype} {' '.join(f'{rate:.1f} ({by})' for by, rate in rates.items())}"
        for dtype, rates in found["matvec_gb_per_s"].items()
    ]
    if each:
        yield f"{rows} x {columns} times a vector, GB/s: {', '.join(each)}"


def bench_table(report: BenchReport) -> Table:
    """Medians, with half the distance of the lowest to the highest as a share of the median."""
    rounds = f"{report.plan.rounds} round{'s' if report.plan.rounds > 1 else ''}"
    title = f"{report.suite}: {report.model}, {report.dtype}, {rounds}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = dict.fromkeys(name for row in report.rows for name in row)
    shown = [name for name in names if _says(name, report.rows)]
    for name in shown:
        text = any(isinstance(row.get(name), str) for row in report.rows)
        table.add_column(
            _HEADERS.get(name, name.replace("_", "\n")),
            justify="left" if text else "right",
            vertical="bottom",
            no_wrap=True,
        )
    for row in report.rows:
        table.add_row(*(_cell(name, row) for name in shown))
    return table


def _says(name: str, rows: Sequence[Row]) -> bool:
    """Whether a column is worth its width. That every exit is a fixed one is understood."""
    values = [row.get(name) for row in rows]
    if name in _UNSAID or any(isinstance(value, list | dict) for value in values):
        return False
    return set(values) not in ({None}, {"none"}, {"none", "fixed"})


def _cell(name: str, row: Row) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    shown = _FORMATS.get(name, _plain)(value)
    if name != _spread_of(row):
        return shown
    return f"{shown} ±{50 * (row['high'] - row['low']) / value:.0f}%"


def _spread_of(row: Row) -> str | None:
    """The number that ``low`` and ``high`` belong to."""
    return next(
        (name for name in ("seconds", "seconds_per_token", "peak", "gb_per_second") if name in row),
        None,
    )


def _plain(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.3g}"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.3g}"


def _bytes(value: float) -> str:
    return quantity(value, "B")


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _share(value: float) -> str:
    return f"{100 * value:.0f}%"


def _two(value: float) -> str:
    return f"{value:.2f}"


_MEASURED = ("seconds", "seconds_per_token", "peak", "gb_per_second")
# or said in another way
_UNSAID = (
    *("low", "high", "imports"),
    *("later_layers", "acceptance_length", "draft_share", "verify_share", "trail_bytes"),
)
_FORMATS: dict[str, Callable[[float], str]] = {
    "seconds": _milliseconds,
    "seconds_per_token": _milliseconds,
    "speedup": _times,
    "slowdown": _times,
    "realised_saving": _two,
    "byte_share": percent,
    "layer_saving": percent,
    "matvec_share": percent,
    "share_of_layer": percent,
    "share_of_readout": percent,
    "overhead": percent,
    **dict.fromkeys(("right", "acceptance_rate"), _share),
    "gb_per_second": _two,
    "state_bytes": _bytes,
    "state_bytes_per_token": _bytes,
    **dict.fromkeys(("weights", "caches", "imports", "peak", "over", "bound"), _bytes),
}
_HEADERS = {
    "seconds": "ms",
    "seconds_per_token": "ms",
    "tokens_per_second": "tokens/s",
    "gb_per_second": "GB/s",
    "exit_layer": "exit\nlayer",
    "acceptance_rate": "accep-\nted",
    "drafts_per_verification": "draf-\nted",
    "same_tokens": "same",
    "realised_saving": "real.\nsaving",
    "state_bytes": "state\nheld",
    "state_bytes_per_token": "state\nmoved",
}
