"""Writing a report: texts are made first, then each file is moved into place, the page last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dynexit.errors import UserError
from dynexit.files import atomic_path
from dynexit.reporting.report.content import Content, build_content
from dynexit.reporting.report.html import html_report
from dynexit.reporting.report.load import load_sweeps
from dynexit.reporting.report.markdown import markdown_report
from dynexit.reporting.report.panels import Plot, write_png


def write_report(directories: Sequence[Path], out: Path) -> Path:
    """Report on sweeps, each in its directory: report.html, report.md and plots as PNG in ``out``.

    What a sweep did not measure has no section. Gives the path of report.html. Raises
    ``UserError`` where a directory holds no sweep or a damaged one, or ``out`` can't be written.
    """
    sweeps = load_sweeps(directories)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # told before the work, not after it
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {out}: {reason}; choose another path") from error
    content = build_content(sweeps)
    pictures = _pictures(content)
    page, text = html_report(content), markdown_report(content, {n: p.title for n, p in pictures})
    for name, plot in pictures:
        write_png(plot, Path(out) / name)
    _write(Path(out) / "report.md", text)
    return _write(Path(out) / "report.html", page)


def _pictures(content: Content) -> list[tuple[str, Plot]]:
    """A file name for each plot, with nothing in it that a file system minds."""
    found: dict[str, Plot] = {}
    for plot in (plot for section in content.sections for plot in section.plots):
        stem = re.sub(r"[^a-z0-9.]+", "-", plot.name.lower()).strip("-.")
        name, number = f"{stem}.png", 2
        while name in found:
            name, number = f"{stem}-{number}.png", number + 1
        found[name] = plot
    return list(found.items())


def _write(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
