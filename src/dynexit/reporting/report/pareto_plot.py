"""Quality against cost, with the front of settings that no other beats in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dynexit.evaluation.pareto import front
from dynexit.reporting.plots import JUDGE_MARKERS, STATE_COLOURS
from dynexit.reporting.report.cells import percent
from dynexit.reporting.report.palette import INK
from dynexit.reporting.report.panels import Key, Panel, Plot
from dynexit.reporting.report.settings import accuracy, accuracy_name, group
from dynexit.reporting.report.sweep import Point
from dynexit.reporting.report.table import metric_text, threshold_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHER = "#999999"
SPAN = 0.1  # of shares, the least that an axis shows


@dataclass(frozen=True)
class Cost:
    """A cost relative to the full model's, 1 being the same."""

    name: str
    label: str
    of: Callable[[Point], float | None]


@dataclass(frozen=True)
class Quality:
    name: str
    of: Callable[[Point], float | None]
    of_full: Callable[[Point], float | None]


def _less(saving: float | None) -> float | None:
    return None if saving is None else 1.0 - saving


COSTS = (
    Cost("FLOPs", "FLOPs, relative to the full model", lambda p: _less(p.flop_saving)),
    Cost("bytes", "bytes moved, relative to the full model", lambda p: _less(p.byte_saving)),
    Cost("time", "decoding time, relative to the full model", lambda p: _time(p)),
)
QUALITIES = (
    Quality("accuracy", accuracy, lambda p: p.full_metrics.get(accuracy_name(p.metrics) or "")),
    Quality("consistency", lambda p: p.consistency["answers"], lambda p: 1.0),
)


def _time(point: Point) -> float | None:
    return 1.0 / point.speedup if point.speedup else None


def pareto_plots(points: Sequence[Point]) -> list[Plot]:
    """A plot for each backbone and cost, with a panel for each quality and task."""
    plots = []
    for backbone, own in group(points, lambda p: p.backbone).items():
        for cost in COSTS:
            measured = [p for p in own if cost.of(p) is not None]
            panels = tuple(_panels(measured, cost))
            if panels:
                title = f"{backbone}: quality against {cost.name}"
                plots.append(
                    Plot(f"pareto-{backbone}-{cost.name}", title, NOTE, panels, _keys(own))
                )
    return plots


NOTE = (
    "Each mark is a judge (shape) with a state policy (colour) at one threshold. Marks on the line "
    "are the Pareto front: no other setting is as good for less, or better for the same. The star "
    "is the full model. Point at a mark to read it."
)


def _panels(points: Sequence[Point], cost: Cost) -> Iterator[Panel]:
    for quality in QUALITIES:
        for task, asked in group(points, lambda p: p.task).items():
            own = [p for p in asked if quality.of(p) is not None]
            if not own:
                continue
            many = "–".join(map(str, sorted({min(p.n for p in own), max(p.n for p in own)})))
            yield Panel(
                title=f"{task}: {quality.name}",
                caption=f"{len(own)} settings, n = {many} questions.",
                draw=partial(_draw, own, cost, quality),
                tips={
                    gid: [_tip(p, cost, quality) for p in same]
                    for gid, same in _collections(own).items()
                },
            )


def _draw(points: Sequence[Point], cost: Cost, quality: Quality, axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    def x(point: Point) -> float:
        return cost.of(point) or 0.0

    def y(point: Point) -> float:
        return quality.of(point) or 0.0

    best = front(points, x, y)
    leading = {id(p) for p in best}
    axes.plot([x(p) for p in best], [y(p) for p in best], color=INK, linewidth=1.2, zorder=1)
    for gid, same in _collections(points).items():
        axes.scatter(
            [x(p) for p in same],
            [y(p) for p in same],
            s=[46 if id(p) in leading else 24 for p in same],
            marker=JUDGE_MARKERS.get(same[0].judge, "o"),
            color=STATE_COLOURS.get(same[0].state, OTHER),
            alpha=0.9,
            edgecolors=INK,
            linewidths=0.5,
            zorder=2,
        ).set_gid(gid)
    full = quality.of_full(points[0])
    if full is not None:
        axes.axhline(full, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
        axes.scatter([1.0], [full], s=120, marker="*", color=INK, zorder=3)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(*_limits([*map(y, points), *([] if full is None else [full])]))
    axes.set_xlabel(cost.label)
    axes.set_ylabel(_label(quality, points[0]))
    axes.margins(x=0.08)


def _limits(shares: Sequence[float]) -> tuple[float, float]:
    """A range with some space around the shares, and never so narrow that noise looks large."""
    low, high = min(shares), max(shares)
    space = 0.06 * max(high - low, SPAN)
    middle, half = (low + high) / 2, max(high - low, SPAN) / 2 + space
    return middle - half, min(middle + half, max(1.0, high) + space)


def _label(quality: Quality, point: Point) -> str:
    metric = metric_text(accuracy_name(point.metrics))
    return f"accuracy ({metric})" if quality.name == "accuracy" else "consistency (whole answers)"


def _collections(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points that look alike, by gid."""
    alike = group(points, lambda p: (p.judge, p.state))
    return {f"marks-{number}": same for number, same in enumerate(alike.values())}


def _tip(point: Point, cost: Cost, quality: Quality) -> str:
    return (
        f"{point.judge}, {point.state}, threshold {threshold_text(point.threshold)}: "
        f"{quality.name} {percent(quality.of(point) or 0.0)}, "
        f"{cost.name} {percent(cost.of(point) or 0.0)} of the full model's"
    )


def _keys(points: Sequence[Point]) -> tuple[Key, ...]:
    judges = dict.fromkeys(p.judge for p in points)
    states = dict.fromkeys(p.state for p in points)
    return (
        Key("full model", "*", INK),
        Key("Pareto front", "-", None),
        *(Key(judge, JUDGE_MARKERS.get(judge, "o"), None) for judge in judges),
        *(Key(state, "o", STATE_COLOURS.get(state, OTHER)) for state in states),
    )
