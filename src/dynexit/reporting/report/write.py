"""Writing a report: everything is made first, then each file is moved into place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynexit.files import atomic_path
from dynexit.reporting.report.content import build_content
from dynexit.reporting.report.html import html_report
from dynexit.reporting.report.load import load_sweeps
from dynexit.reporting.report.markdown import markdown_report


def write_report(directories: Sequence[Path], out: Path) -> Path:
    """Report on sweeps, each in its directory: report.html, report.md and plots as PNG in ``out``.

    What a sweep did not measure has no section. Gives the path of report.html; a directory that
    holds no sweep is a UserError.
    """
    content = build_content(load_sweeps(directories))
    page = Path(out) / "report.html"
    for path, text in (
        (Path(out) / "report.md", markdown_report(content)),
        (page, html_report(content)),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return page
