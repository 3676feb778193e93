"""The report as one HTML file that asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dynexit.reporting.report import cells
from dynexit.reporting.report.content import Content
from dynexit.reporting.report.panels import Key, Panel
from dynexit.reporting.report.settings import RULES
from dynexit.reporting.report.svg import inline_svg, key_svg
from dynexit.reporting.report.table import COLUMNS


def html_report(content: Content) -> str:
    """Everything that comes from a model or a file is escaped; besides, the page's policy lets no
    script run but its own, which sorts tables."""
    environment = Environment(
        loader=PackageLoader("dynexit.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (_source(environment, f"report.{kind}") for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template("report.html").render(
        content=content,
        cells=cells,
        columns=COLUMNS,
        rules=RULES,
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
        inline_svg=_panel,
        key_svg=_key,
    )


def _panel(panel: Panel, label: str, prefix: str) -> Markup:
    return Markup(inline_svg(panel, label, prefix))  # built as a tree, which escapes its texts


def _key(key: Key) -> Markup:
    return Markup(key_svg(key))


def _source(environment: Environment, name: str) -> Markup:
    """A file of ours beside the template, as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])
