"""The report as one HTML file that asks nothing of the network."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from dynexit.reporting.report import cells
from dynexit.reporting.report.content import Content
from dynexit.reporting.report.table import COLUMNS


def html_report(content: Content) -> str:
    """Everything that comes from a model or a file is escaped."""
    environment = Environment(
        loader=PackageLoader("dynexit.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        content=content, cells=cells, columns=COLUMNS
    )
