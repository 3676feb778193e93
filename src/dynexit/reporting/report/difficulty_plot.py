"""Whether harder questions go deeper: mean exit layer by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from dynexit.evaluation.bootstrap import Interval, interval, mean
from dynexit.reporting.plots import JUDGE_MARKERS, STATE_COLOURS
from dynexit.reporting.report.palette import INK
from dynexit.reporting.report.panels import Key, Panel, Plot
from dynexit.reporting.report.pareto_plot import OTHER
from dynexit.reporting.report.settings import Best, group
from dynexit.reporting.report.sweep import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTE = (
    "Mean exit layer of the questions of each level, for each judge's setting in the table, with "
    "95% bootstrap intervals over questions; judges are moved apart a little so that none hides "
    "another. Layers are the mean of an answer's tokens."
)


@dataclass(frozen=True)
class LevelDepth:
    """The mean exit layer of ``n`` questions of one level."""

    level: int
    n: int
    mean: float
    interval: Interval | None


def level_depths(point: Point) -> list[LevelDepth]:
    """By level, from the lowest; empty where levels or exit layers are not told."""
    levels, depths = (point.questions.get(name, ()) for name in ("level", "mean_exit_layer"))
    if len(levels) != len(depths):
        return []
    told = [(int(v), float(d)) for v, d in zip(levels, depths, strict=True) if v and d is not None]
    by_level = sorted(group(told, lambda pair: pair[0]).items())
    return [
        LevelDepth(level, len(pairs), fmean(values), interval(values, mean))
        for level, pairs in by_level
        for values in [[depth for _, depth in pairs]]
    ]


def difficulty_plots(bests: Sequence[Best]) -> list[Plot]:
    """A plot for each backbone with a panel for each task of more than one level."""
    told = [b.point for b in bests if len(level_depths(b.point)) > 1]
    plots = []
    for backbone, own in group(told, lambda p: p.backbone).items():
        panels = tuple(_panel(task, same) for task, same in group(own, lambda p: p.task).items())
        title = f"{backbone}: difficulty and depth"
        plots.append(Plot(f"difficulty-{backbone}", title, NOTE, panels, _keys(own)))
    return plots


def _panel(task: str, points: Sequence[Point]) -> Panel:
    counts = ", ".join(f"{d.n} of level {d.level}" for d in level_depths(points[0]))
    return Panel(
        title=task,
        caption=f"n = {points[0].n} questions ({counts}).",
        draw=partial(_draw, points),
    )


def _draw(points: Sequence[Point], axes: Axes) -> None:
    seen: set[int] = set()
    for number, point in enumerate(points):
        shift = 0.4 * ((number + 0.5) / len(points) - 0.5)
        depths = level_depths(point)
        x, y = [d.level + shift for d in depths], [d.mean for d in depths]
        bounds = [d.interval or Interval(d.mean, d.mean) for d in depths]
        low = [max(0.0, d.mean - b.low) for d, b in zip(depths, bounds, strict=True)]
        high = [max(0.0, b.high - d.mean) for d, b in zip(depths, bounds, strict=True)]
        colour = STATE_COLOURS.get(point.state, OTHER)
        axes.errorbar(x, y, yerr=[low, high], color=colour, linewidth=1, elinewidth=1, zorder=1)
        marker = JUDGE_MARKERS.get(point.judge, "o")
        axes.scatter(
            x, y, s=34, marker=marker, color=colour, edgecolors=INK, linewidths=0.6, zorder=2
        )
        seen.update(d.level for d in depths)
    axes.set_xticks(sorted(seen))
    axes.set_xlabel("level (1 is easiest)")
    axes.set_ylabel("mean exit layer")


def _keys(points: Sequence[Point]) -> tuple[Key, ...]:
    judges = dict.fromkeys(p.judge for p in points)
    states = dict.fromkeys(p.state for p in points)
    return (
        *(Key(judge, JUDGE_MARKERS.get(judge, "o"), None) for judge in judges),
        *(Key(state, "o", STATE_COLOURS.get(state, OTHER)) for state in states),
    )
