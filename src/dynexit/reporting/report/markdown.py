"""The report as Markdown, for a repository or an issue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dynexit.reporting.report.cells import column_values, interval_text, spread_text, value_text
from dynexit.reporting.report.content import Content
from dynexit.reporting.report.heatmap import Heatmap
from dynexit.reporting.report.table import COLUMNS, TableRow, TaskRows
from dynexit.reporting.report.text_table import TextTable


def markdown_report(content: Content, pictures: Mapping[str, str]) -> str:
    """Tables, plots (``pictures``: file name to title), answers, and how all was made.

    The table of all settings is in the HTML alone: points.jsonl has it for programs.
    """
    parts = [f"# {escape(content.title)}"]
    parts += ["\n".join(f"- {escape(line)}" for line in content.summary)]
    parts += ["## Accuracy, consistency and savings", *map(escape, content.table_notes)]
    parts += [part for rows in content.tables for part in _task(rows)]
    titles = iter(pictures.items())
    for section in content.sections:
        parts += [f"## {section.title}", escape(section.note)]
        for plot in section.plots:
            name, title = next(titles)
            captions = "; ".join(f"{panel.title} ({panel.caption})" for panel in plot.panels)
            parts += [f"### {escape(title)}", f"![{escape(title)}]({name})", escape(captions)]
    if content.heatmaps:
        parts += ["## Answers by depth", "The number after a token is the layer it left at."]
        parts += [part for heatmap in content.heatmaps for part in _answer(heatmap)]
    if content.certificates is not None:
        parts += ["## Certificates", *_text_table(content.certificates)]
    parts.append("## Setup")
    for backbone, rows in content.setups:
        lines = [[escape(name), escape(value)] for name, value in rows]
        parts += [f"### {escape(backbone)}", table_lines(("", ""), lines, right=2)]
    return "\n\n".join(parts) + "\n"


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]], right: int) -> str:
    """A table; the columns from ``right`` on are aligned to the right."""
    rule = ["---" if at < right else "---:" for at in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in flat)


def _task(rows: TaskRows) -> list[str]:
    title = f"### {escape(rows.backbone)}: {escape(rows.task)}, n = {rows.n} questions"
    note = f"Accuracy is {escape(rows.metric)}." if rows.metric else "No accuracy was measured."
    head = ("judge", "setting", *COLUMNS)
    return [title, note, table_lines(head, map(_cells, rows.rows), right=2)]


def _cells(row: TableRow) -> list[str]:
    mark = " †" if row.rule == "consistency" else ""
    figures = [
        " ".join(filter(None, (value_text(c, f), spread_text(f), interval_text(f))))
        for c, f in column_values(row.figures)
    ]
    setting = "; ".join(filter(None, (row.setting, row.training)))
    return [escape(row.judge) + mark, escape(setting), *figures]


def _text_table(table: TextTable) -> list[str]:
    rows = [[escape(cell) for cell in row] for row in table.rows]
    return [escape(table.caption), table_lines(table.head, rows, table.right)]


def _answer(heatmap: Heatmap) -> list[str]:
    tokens = " ".join(f"{escape(t.text)}<sub>{t.layer}</sub>" for t in heatmap.tiles)
    parts = [
        f"### {escape(heatmap.backbone)}: {escape(heatmap.task)}, {escape(heatmap.judge)}",
        f"{escape(heatmap.setting)}. {escape(heatmap.summary)}",
        f"Prompt: {escape(heatmap.prompt)}",
        f"Answer: {tokens}",
    ]
    if heatmap.full_text is not None:
        parts.append(f"The full model's answer: {escape(heatmap.full_text)}")
    return parts
