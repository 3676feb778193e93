"""All that a report tells, before it has a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynexit.reporting.report.load import Sweep
from dynexit.reporting.report.settings import RULES
from dynexit.reporting.report.table import TaskRows, build_table


@dataclass(frozen=True)
class Content:
    """``summary`` and ``table_notes`` are paragraphs of plain text."""

    title: str
    summary: tuple[str, ...]
    table_notes: tuple[str, ...]
    tables: tuple[TaskRows, ...]


def build_content(sweeps: Sequence[Sweep]) -> Content:
    tables = build_table(sweeps)
    backbones = list(dict.fromkeys(sweep.backbone for sweep in sweeps))
    return Content(
        title="Early exits: " + ", ".join(backbones),
        summary=(),
        table_notes=(f"The setting shown is {RULES['saving']}. † {RULES['consistency']}.",),
        tables=tuple(tables),
    )
