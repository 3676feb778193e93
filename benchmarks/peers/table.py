"""The rows for people: one table, and below it why some have no figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rows import Row

PLAIN_WIDTH = 150  # of what goes to a file
HEADS = (
    *("ms", "from", "to", "tokens/s"),
    *("x hf", "x llama", "speedup", "GB/s", "realised", "same"),
)


def print_rows(rows: Sequence[Row], title: str) -> None:
    """To standard output."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(highlight=False, width=width)
    console.print(_table([row for row in rows if "reason" not in row], title))
    missing: dict[str, list[str]] = {}
    for row in rows:
        if "reason" in row:
            missing.setdefault(row["reason"], []).append(_name(row))
    for reason, names in missing.items():
        console.print(f"no figure for {', '.join(names)}:\n  {reason}", markup=False)


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left")
    table.add_column("system")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        times = (row[key] * 1e3 for key in ("seconds_per_token", "low", "high"))
        table.add_row(
            _name(row),
            *(f"{time:.1f}" for time in times),
            f"{row['tokens_per_second']:.1f}",
            _number(row["speed_against_transformers"]),
            _number(row["speed_against_llama_cpp"]),
            _number(row["speedup"]),
            "" if row["gb_per_second"] is None else f"{row['gb_per_second']:.1f}",
            _number(row["realised_saving"]),
            "" if row["same_tokens"] is None else str(row["same_tokens"]),
        )
    return table


def _name(row: Row) -> str:
    case = f"{row['case']}: " if row["case"] else ""
    candidate = f", {row['candidate']}" if row.get("candidate") else ""
    return f"{case}{row['row']}{candidate}"


CAPTION = (
    "ms a token: median, lowest, highest of the rounds; x hf, x llama: speed against transformers "
    "and llama.cpp of as many bits; speedup: over the same system at full depth; realised: saving "
    "of time over saving of bytes; same: tokens that are those of transformers before the first "
    "that is not"
)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
