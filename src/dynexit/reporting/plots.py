"""Plots, drawn without a display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynexit.evaluation.row import Row
from dynexit.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers can tell apart.
STATE_COLOURS = {
    "copy": "#0072b2",
    "propagate": "#e69f00",
    "freeze": "#cc79a7",
    "recompute": "#009e73",
}
JUDGE_MARKERS = {
    "linear": "o",
    "ffn": "s",
    "mamba": "D",
    "shared": "h",
    "depth": "d",
    "predictor": ">",
    "top-probability": "^",
    "margin": "v",
    "entropy": "P",
    "saturation": "X",
    "patience": "<",
}


def accuracy_vs_flops(
    rows: Sequence[Row], full: Sequence[Row], path: str | os.PathLike[str]
) -> None:
    """One panel a model: FLOPs a token relative to the full model against accuracy.

    ``full`` holds the full models' rows, drawn as stars.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(full), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(full), squeeze=False, sharex=True, sharey=True)[0]
    for panel, whole in zip(axes, full, strict=True):
        _panel(panel, [row for row in rows if row.model == whole.model], whole)
    axes[0].set_ylabel("accuracy (exact match)")
    handles = _legend_handles(rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160)


def _panel(axes: Axes, rows: Sequence[Row], full: Row) -> None:
    from matplotlib.ticker import PercentFormatter

    for row in rows:
        axes.scatter(
            1.0 - row.flop_saving,
            row.accuracy,
            s=64,
            marker=JUDGE_MARKERS.get(row.judge, "o"),
            color=STATE_COLOURS.get(row.state, "#666666"),
            alpha=0.85,
            edgecolors="white",
            linewidths=0.6,
        )
    axes.scatter(1.0, full.accuracy, s=230, marker="*", color="black", zorder=3)
    axes.axhline(full.accuracy, color="black", linewidth=0.8, linestyle=":", alpha=0.5)
    axes.set_title(full.model.removeprefix("reference:"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("FLOPs a token, relative to the full model")
    axes.grid(alpha=0.25)
    axes.margins(0.12)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_handles(rows: Sequence[Row]) -> list[object]:
    from matplotlib.lines import Line2D

    def handle(label: str, marker: str, colour: str, size: float = 8) -> object:
        return Line2D([], [], linestyle="", marker=marker, color=colour, label=label, ms=size)

    judges = list(dict.fromkeys(row.judge for row in rows))
    states = [name for name in STATE_COLOURS if any(row.state == name for row in rows)]
    return [
        handle("full model", "*", "black", 13),
        *(handle(judge, JUDGE_MARKERS.get(judge, "o"), "#666666") for judge in judges),
        *(handle(state, "o", STATE_COLOURS[state]) for state in states),
    ]
