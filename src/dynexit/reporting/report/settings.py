"""From points of a sweep to the settings that a table shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal, TypeVar

from dynexit.reporting.report.sweep import Point

Rule = Literal["saving", "consistency"]
CONSISTENT = 0.97
RULES: Mapping[Rule, str] = {
    "saving": f"the largest FLOP saving among settings of which at least {CONSISTENT:.0%} of "
    "answers are the full model's, token for token",
    "consistency": f"no setting of the judge reached {CONSISTENT:.0%}, so its most consistent one "
    "is shown",
}

K = TypeVar("K")


@dataclass(frozen=True)
class Best:
    """A judge's setting that a table shows for a task, and the rule that chose it."""

    point: Point
    rule: Rule


def accuracy_name(metrics: Mapping[str, float]) -> str | None:
    """The metric called accuracy: exact match where there is one, else the first."""
    return "em" if "em" in metrics else next(iter(metrics), None)


def accuracy(point: Point) -> float | None:
    name = accuracy_name(point.metrics)
    return None if name is None else point.metrics[name]


def group(items: Iterable[Any], key: Callable[[Any], K]) -> dict[K, list[Any]]:
    """Items by key, keys in order of appearance."""
    found: dict[K, list[Any]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def average_seeds(points: Sequence[Point]) -> list[Point]:
    """One point a setting and task: the mean over the seeds that its judge was trained with."""
    return [_average(same) for same in group(points, _setting).values()]


def choose(points: Sequence[Point]) -> Best:
    """Of the settings of one judge on one task, the one that ``RULES`` say."""
    consistent = [p for p in points if p.consistency["answers"] >= CONSISTENT]
    if consistent:
        return Best(max(consistent, key=lambda p: p.flop_saving), "saving")
    return Best(max(points, key=lambda p: (p.consistency["answers"], p.flop_saving)), "consistency")


def choose_all(points: Sequence[Point]) -> list[Best]:
    """The best setting of every backbone, task and judge, in order of appearance."""
    alike = group(points, lambda p: (p.backbone, p.task, p.judge))
    return [choose(same) for same in alike.values()]


def seed_spread(
    points: Sequence[Point], chosen: Point, of: Callable[[Point], float]
) -> float | None:
    """Standard deviation over seeds of a figure of ``chosen``, None for fewer than two."""
    figures = [of(p) for p in points if _setting(p) == _setting(chosen)]
    return stdev(figures) if len(figures) > 1 else None


def _setting(point: Point) -> tuple[object, ...]:
    p = point
    return (p.backbone, p.judge, p.top_k, p.layers, p.state, p.threshold, p.task)


def _average(points: list[Point]) -> Point:
    if len(points) == 1:
        return points[0]
    first = points[0]
    exits = sorted({layer for p in points for layer in p.exit_layers})
    return replace(
        first,
        seeds=tuple(sorted({seed for p in points for seed in p.seeds})),
        metrics=_means([p.metrics for p in points]),
        full_metrics=_means([p.full_metrics for p in points]),
        consistency=_means([p.consistency for p in points]),
        flop_saving=fmean(p.flop_saving for p in points),
        mean_exit_layer=_mean([p.mean_exit_layer for p in points]),
        layer_saving=_mean([p.layer_saving for p in points]),
        byte_saving=_mean([p.byte_saving for p in points]),
        speedup=_mean([p.speedup for p in points]),
        replayed=_mean([p.replayed for p in points]),
        exit_layers={layer: sum(p.exit_layers.get(layer, 0) for p in points) for layer in exits},
        questions=_mean_questions([p.questions for p in points]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(m[name] for m in each) for name in each[0] if all(name in m for m in each)}


def _mean_questions(each: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, Sequence[Any]]:
    """Question by question; what is no number (a kind) is every seed's alike."""
    found: dict[str, Sequence[Any]] = {}
    for name, first in each[0].items():
        columns = [m.get(name, ()) for m in each]
        if any(len(column) != len(first) for column in columns):
            continue
        numeric = all(isinstance(v, int | float) for column in columns for v in column)
        found[name] = [fmean(vs) for vs in zip(*columns, strict=True)] if numeric else first
    return found
