"""Where tokens leave: the share of them at each exit layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from dynexit.reporting.report.palette import INK, depth_fill, text_on
from dynexit.reporting.report.panels import Key, Panel, Plot
from dynexit.reporting.report.settings import Best, group
from dynexit.reporting.report.sweep import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE = (
    "Share of generated tokens by the layer they left at, for each judge's setting in the table. "
    "Light is early, dark is deep."
)


def depth_plots(bests: Sequence[Best]) -> list[Plot]:
    """A plot for each backbone with a panel for each task, a bar for each judge."""
    counted = [best.point for best in bests if sum(best.point.exit_layers.values())]
    plots = []
    for backbone, own in group(counted, lambda p: p.backbone).items():
        panels = tuple(_panel(task, same) for task, same in group(own, lambda p: p.task).items())
        title = f"{backbone}: exit layers"
        plots.append(Plot(f"exit-layers-{backbone}", title, NOTE, panels, depth_keys(own)))
    return plots


def depth_keys(points: Sequence[Point]) -> tuple[Key, ...]:
    """A key for each layer that tokens left at."""
    depth = points[0].depth
    layers = sorted({layer for p in points for layer, count in p.exit_layers.items() if count})
    return tuple(layer_key(layer, depth) for layer in layers)


def layer_key(layer: int, depth: int) -> Key:
    name = f"layer {layer} (full depth)" if layer == depth else f"layer {layer}"
    return Key(name, "s", depth_fill(layer, depth))


def _panel(task: str, points: Sequence[Point]) -> Panel:
    tokens = [sum(p.exit_layers.values()) for p in points]
    count = f"{min(tokens)}" if min(tokens) == max(tokens) else f"{min(tokens)} to {max(tokens)}"
    return Panel(
        title=f"{task}: exit layers",
        caption=f"Tokens by exit layer, n = {count} tokens a judge.",
        draw=partial(_draw, points),
        left=1.15,
    )


def _draw(points: Sequence[Point], axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    for row, point in enumerate(points):
        total, left = sum(point.exit_layers.values()), 0.0
        for layer, count in sorted(point.exit_layers.items()):
            share, fill = count / total, depth_fill(layer, point.depth)
            if not count:
                continue
            axes.barh(row, share, left=left, color=fill, edgecolor=INK, linewidth=0.5, height=0.72)
            if share >= 0.12:
                text = f"{100 * share:.0f}%"
                centre = left + share / 2
                axes.text(
                    centre, row, text, ha="center", va="center", fontsize=7, color=text_on(fill)
                )
            left += share
    axes.set_yticks(range(len(points)), [p.judge for p in points])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of tokens")
