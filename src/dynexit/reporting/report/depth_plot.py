"""Where tokens leave: the share of them at each exit layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dynexit.reporting.report.palette import INK, DepthScale, text_on
from dynexit.reporting.report.panels import Key, Panel, Plot
from dynexit.reporting.report.settings import Best, group
from dynexit.reporting.report.sweep import Point, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE = (
    "Share of generated tokens by the layer they left at, for each judge's setting in the table. "
    "Light is early, dark is deep."
)


def depth_scales(sweeps: Sequence[Sweep]) -> dict[str, DepthScale]:
    """Colours of depth for each backbone, over all exits of its sweeps."""
    points = [point for sweep in sweeps for point in sweep.points]
    return {
        backbone: DepthScale(
            min(layer for p in own for layer in (*p.layers, *p.exit_layers, p.depth)),
            max(p.depth for p in own),
        )
        for backbone, own in group(points, lambda p: p.backbone).items()
    }


def depth_plots(bests: Sequence[Best], scales: Mapping[str, DepthScale]) -> list[Plot]:
    """A plot for each backbone with a panel for each task, a bar for each judge."""
    counted = [best.point for best in bests if sum(best.point.exit_layers.values())]
    plots = []
    for backbone, own in group(counted, lambda p: p.backbone).items():
        scale, by_task = scales[backbone], group(own, lambda p: p.task).items()
        panels = tuple(_panel(task, same, scale) for task, same in by_task)
        layers = sorted({layer for p in own for layer, count in p.exit_layers.items() if count})
        keys = tuple(layer_key(layer, scale) for layer in layers)
        title = f"{backbone}: exit layers"
        plots.append(Plot(f"exit-layers-{backbone}", title, NOTE, panels, keys))
    return plots


def layer_key(layer: int, scale: DepthScale) -> Key:
    return Key(scale.name(layer), "s", scale.fill(layer))


def _panel(task: str, points: Sequence[Point], scale: DepthScale) -> Panel:
    tokens = [sum(p.exit_layers.values()) for p in points]
    count = f"{min(tokens)}" if min(tokens) == max(tokens) else f"{min(tokens)} to {max(tokens)}"
    return Panel(
        title=task,
        caption=f"n = {count} tokens a judge.",
        draw=partial(_draw, points, scale),
        left=1.15,
    )


def _draw(points: Sequence[Point], scale: DepthScale, axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    for row, point in enumerate(points):
        total, left = sum(point.exit_layers.values()), 0.0
        for layer, count in sorted(point.exit_layers.items()):
            share, fill = count / total, scale.fill(layer)
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
