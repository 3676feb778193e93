"""A plot as small panels: side by side on a wide page, one below another on a phone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from dynexit.files import atomic_path
from dynexit.reporting.report.palette import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: a panel, the space for its title in a PNG, and what lies around its axes.
SIZE, HEAD = (3.5, 2.55), 0.3
RIGHT, BOTTOM, TOP = 0.2, 0.48, 0.1
LINES = ("-", ":")
COLUMNS = 3  # panels side by side in a PNG


@dataclass(frozen=True)
class Key:
    """An entry of a legend. ``fill`` None is an empty marker; the markers "-" and
    ":" are lines."""

    label: str
    marker: str
    fill: str | None


@dataclass(frozen=True)
class Panel:
    """``draw`` draws it; ``caption`` says what it shows and of how many; ``tips`` holds, by the
    gid of a collection, a line for each of its marks; ``left`` is its margin in inches."""

    title: str
    caption: str
    draw: Callable[[Axes], None]
    tips: Mapping[str, list[str]] = field(default_factory=dict)
    left: float = 0.7


@dataclass(frozen=True)
class Plot:
    """Panels that share a legend. ``name`` is that of the PNG."""

    name: str
    title: str
    note: str
    panels: tuple[Panel, ...]
    keys: tuple[Key, ...]


def panel_svg(panel: Panel) -> str:
    """One panel as the text of an SVG file; its marks keep their gid."""
    from matplotlib import rc_context

    with rc_context(_style(INK)):
        figure = _figure(*SIZE)
        _draw(figure, panel, (0.0, 0.0))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue().decode("utf-8")


def write_png(plot: Plot, path: str | os.PathLike[str]) -> None:
    """All panels with their legend on white, atomically."""
    from matplotlib import rc_context

    columns = min(COLUMNS, len(plot.panels))
    rows, in_line = ceil(len(plot.panels) / columns), 2 * columns
    width, strip = SIZE[0] * columns, 0.2 * ceil(len(plot.keys) / in_line) + 0.15
    with rc_context(_style("#000000")):
        figure = _figure(width, (SIZE[1] + HEAD) * rows + strip)
        for number, panel in enumerate(plot.panels):
            row, column = divmod(number, columns)
            corner = SIZE[0] * column, strip + (SIZE[1] + HEAD) * (rows - 1 - row)
            _draw(figure, panel, corner).set_title(panel.title, fontsize=9)
        handles = _handles(plot.keys)
        figure.legend(handles=handles, loc="lower center", ncols=in_line, frameon=False, fontsize=8)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150, facecolor="white")


def _draw(figure: Figure, panel: Panel, corner: tuple[float, float]) -> Axes:
    """Draw it in the cell whose lower left corner is there; margins are fixed, so that panels
    stand in line."""
    (x, y), (width, height) = corner, figure.get_size_inches()
    inner = SIZE[0] - panel.left - RIGHT, SIZE[1] - BOTTOM - TOP
    place = ((x + panel.left) / width, (y + BOTTOM) / height, inner[0] / width, inner[1] / height)
    axes = figure.add_axes(place)
    panel.draw(axes)
    axes.grid(alpha=0.2)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _style(ink: str) -> dict[Any, Any]:
    """Names from files are text and no formulas; letters stay letters, in the page's font."""
    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys((*coloured, "grid.color"), ink),
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "dynexit",
        "font.size": 9,
        "axes.linewidth": 0.8,
    }


def _handles(keys: Sequence[Key]) -> list[object]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            linestyle=":" if key.marker == ":" else "-",
            color="#000000",
            linewidth=1.2,
            label=key.label,
        )
        if key.marker in LINES
        else Line2D(
            [],
            [],
            linestyle="",
            marker=key.marker,
            markerfacecolor=key.fill or "none",
            markeredgecolor="#000000",
            markeredgewidth=0.6,
            markersize=7,
            label=key.label,
        )
        for key in keys
    ]
