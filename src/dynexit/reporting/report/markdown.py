"""The report as Markdown, for a repository or an issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynexit.reporting.report.cells import column_values, interval_text, spread_text, value_text
from dynexit.reporting.report.content import Content
from dynexit.reporting.report.table import COLUMNS, TableRow, TaskRows


def markdown_report(content: Content) -> str:
    """Tables, the names of the plots beside it, and how it was made."""
    parts = [f"# {escape(content.title)}", *content.summary]
    parts += ["## Accuracy, consistency and savings", *content.table_notes]
    parts += [part for rows in content.tables for part in _task(rows)]
    return "\n\n".join(parts) + "\n"


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """A table; the columns from ``right`` on are aligned to the right."""
    rule = ["---" if at < right else "---:" for at in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in flat)


def _task(rows: TaskRows) -> list[str]:
    title = f"### {escape(rows.backbone)}: {escape(rows.task)}, {rows.n} questions"
    head = ("judge", "setting", *COLUMNS)
    note = f"Accuracy is {escape(rows.metric)}." if rows.metric else "No accuracy was measured."
    return [title, note, table_lines(head, map(_cells, rows.rows), right=2)]


def _cells(row: TableRow) -> list[str]:
    mark = " †" if row.rule == "consistency" else ""
    figures = [
        " ".join(filter(None, (value_text(c, f), interval_text(f), spread_text(f))))
        for c, f in column_values(row.figures)
    ]
    return [escape(row.judge) + mark, escape(row.setting), *figures]
