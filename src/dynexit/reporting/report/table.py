"""The paper's table: backbone x judge x task, with accuracy, consistency and savings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynexit.evaluation.bootstrap import Interval, interval, mean, saving
from dynexit.reporting.report.settings import (
    Best,
    Rule,
    accuracy_name,
    average_seeds,
    choose_all,
    group,
    seed_spread,
)
from dynexit.reporting.report.sweep import Point, Sweep

COLUMNS = ("accuracy", "consistency", "FLOP saving", "byte saving", "layer saving", "speedup")


_METRICS = {"em": "exact match", "f1": "F1 over words", "mc1": "MC1", "mc2": "MC2"}


@dataclass(frozen=True)
class Figure:
    """A number, its confidence interval over questions and its standard deviation over seeds."""

    value: float
    interval: Interval | None = None
    spread: float | None = None


@dataclass(frozen=True)
class TableRow:
    """A judge at its best setting on a task; the full model has no ``rule``. ``setting`` is state
    policy and threshold, ``training`` what else tells it from others. Figures are those of
    ``COLUMNS``, None where not measured."""

    judge: str
    setting: str
    training: str
    rule: Rule | None
    figures: tuple[Figure | None, ...]


@dataclass(frozen=True)
class TaskRows:
    """A backbone's rows of one task. ``metric`` is what accuracy means; the full model is first."""

    backbone: str
    task: str
    n: int
    metric: str
    rows: tuple[TableRow, ...]


def build_table(sweeps: Sequence[Sweep]) -> list[TaskRows]:
    """By backbone, then task, in the order of the sweeps."""
    points = [point for sweep in sweeps for point in sweep.points]
    bests = choose_all(average_seeds(points))
    return [
        _task_rows(points, best)
        for by_backbone in group(bests, lambda b: b.point.backbone).values()
        for best in group(by_backbone, lambda b: b.point.task).values()
    ]


def metric_text(name: str | None) -> str:
    """A metric's name in words; empty for none."""
    return "" if name is None else _METRICS.get(name, name)


def setting_text(point: Point) -> str:
    return f"{point.state}, threshold {threshold_text(point.threshold)}"


def training_text(point: Point) -> str:
    """Exit layers, and how labels were made and how often a judge was trained."""
    parts = ["exits " + ", ".join(map(str, point.layers))] if point.layers else []
    if point.top_k is not None:
        parts.append(f"top-{point.top_k} labels")
    if len(point.seeds) > 1:
        parts.append(f"{len(point.seeds)} seeds")
    return "; ".join(parts)


def threshold_text(threshold: float | tuple[float, ...] | None) -> str:
    if threshold is None:
        return "none"
    many = threshold if isinstance(threshold, tuple) else (threshold,)
    return "/".join(f"{value:g}" for value in many)


def _task_rows(points: Sequence[Point], bests: Sequence[Best]) -> TaskRows:
    first = bests[0].point
    return TaskRows(
        backbone=first.backbone,
        task=first.task,
        n=first.n,
        metric=metric_text(accuracy_name(first.metrics)),
        rows=(_full_row(first), *(_row(points, best) for best in bests)),
    )


def _full_row(point: Point) -> TableRow:
    name = accuracy_name(point.metrics)
    value = None if name is None else point.full_metrics.get(name)
    accuracy = None if value is None else Figure(value)
    return TableRow("full model", "", "", None, (accuracy, *(None for _ in COLUMNS[1:])))


def _row(points: Sequence[Point], best: Best) -> TableRow:
    point = best.point
    name = accuracy_name(point.metrics)

    def spread(of: Callable[[Point], float]) -> float | None:
        return seed_spread(points, point, of)

    accuracy = None
    if name is not None:
        accuracy = Figure(
            point.metrics[name], _mean_interval(point, name), spread(lambda p: p.metrics[name])
        )
    figures = (
        accuracy,
        Figure(
            point.consistency["answers"],
            _mean_interval(point, "same"),
            spread(lambda p: p.consistency["answers"]),
        ),
        Figure(point.flop_saving, _saving_interval(point), spread(lambda p: p.flop_saving)),
        *(
            None if value is None else Figure(value)
            for value in (point.byte_saving, point.layer_saving, point.speedup)
        ),
    )
    return TableRow(point.judge, setting_text(point), training_text(point), best.rule, figures)


def _mean_interval(point: Point, name: str) -> Interval | None:
    values = _column(point, name)
    return None if values is None else interval(values, mean)


def _saving_interval(point: Point) -> Interval | None:
    flops, full = _column(point, "flops"), _column(point, "full_flops")
    if flops is None or full is None:
        return None
    return interval(np.stack([flops, full], axis=1), saving)


def _column(point: Point, name: str) -> NDArray[np.float64] | None:
    """A number for each of the n questions, None where they are not all told."""
    values: ArrayLike = [np.nan if v is None else v for v in point.questions.get(name, ())]
    column = np.asarray(values, dtype=np.float64)
    return column if len(column) == point.n and np.isfinite(column).all() else None
