"""What a way of leaving keeps and saves at a threshold that was chosen on other questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynexit.evaluation.bootstrap import Interval, interval
from dynexit.evaluation.points import Point

CONSISTENT = 0.97
Floats = NDArray[np.float64]
# Columns of ``Outcome.values``.
SAME, RIGHT, LAYERS, FULL_LAYERS, FLOPS, FULL_FLOPS, BYTES, FULL_BYTES = range(8)


@dataclass(frozen=True)
class Way:
    """A judge and its training but for the seed, with exit layers and a state policy."""

    judge: str
    state: str
    layers: tuple[int, ...]
    top_k: int | None


@dataclass(frozen=True)
class Outcome:
    """``values`` [questions, seeds, 8] of the questions that no threshold was chosen on;
    ``thresholds`` by seed, None where none was consistent enough and all ran to full depth."""

    way: Way
    thresholds: tuple[float | None, ...]
    values: Floats

    def figure(self, statistic: Callable[[Floats], Floats]) -> tuple[float, Interval]:
        """A statistic of [r, questions, seeds, 8] with its 95% interval over questions."""
        found = interval(self.values, statistic)
        assert found is not None
        return float(statistic(self.values[None])[0]), found


def consistency(values: Floats) -> Floats:
    """Share of answers equal to the full model's, mean over seeds."""
    return np.asarray(values[..., SAME].mean((1, 2)))


def accuracy(values: Floats) -> Floats:
    """Exact match, mean over seeds."""
    return np.asarray(values[..., RIGHT].mean((1, 2)))


def layer_saving(values: Floats) -> Floats:
    """Share of layers saved until tokens were known, mean over seeds."""
    return _saving(values, LAYERS, FULL_LAYERS)


def flop_saving(values: Floats) -> Floats:
    """Share of FLOPs saved, everything counted, mean over seeds."""
    return _saving(values, FLOPS, FULL_FLOPS)


def byte_saving(values: Floats) -> Floats:
    """Share of bytes saved, mean over seeds."""
    return _saving(values, BYTES, FULL_BYTES)


def _saving(values: Floats, spent: int, full: int) -> Floats:
    total = values.sum(1)  # [r, seeds, 8]
    return np.asarray((1.0 - total[..., spent] / total[..., full]).mean(1))


def outcomes(points: Sequence[Point], task: str) -> dict[Way, Outcome]:
    """Of every way the outcome on a task. Thresholds are the lowest that are consistent on every
    second question; all else is told of the others."""
    groups: dict[Way, dict[int | None, list[Point]]] = {}
    for point in points:
        if point.task == task:
            way = Way(point.judge, point.state, point.layers, point.top_k)
            groups.setdefault(way, {}).setdefault(point.seed, []).append(point)
    return {way: _outcome(way, list(seeds.values())) for way, seeds in groups.items()}


def difference(
    first: Outcome, second: Outcome, statistic: Callable[[Floats], Floats]
) -> tuple[float, Interval]:
    """``first`` - ``second`` on the same questions, with its interval."""
    paired = np.concatenate([first.values, second.values], axis=1)
    seeds = first.values.shape[1]

    def gap(values: Floats) -> Floats:
        return statistic(values[:, :, :seeds]) - statistic(values[:, :, seeds:])

    found = interval(paired, gap)
    assert found is not None
    return float(gap(paired[None])[0]), found


def _outcome(way: Way, seeds: Sequence[Sequence[Point]]) -> Outcome:
    chosen = [_chosen(points) for points in seeds]
    columns = [
        _full(points[0]) if best is None else _columns(best)
        for points, best in zip(seeds, chosen, strict=True)
    ]
    thresholds = tuple(None if best is None else best.threshold for best in chosen)
    return Outcome(way, thresholds, np.stack([c[1::2] for c in columns], axis=1))


def _chosen(points: Sequence[Point]) -> Point | None:
    for point in sorted(points, key=lambda p: p.threshold):
        if np.mean(point.questions["same"][::2]) >= CONSISTENT:
            return point
    return None


def _columns(point: Point) -> Floats:
    """[questions, 8]."""
    told = point.questions
    tokens = np.asarray(told["tokens"], dtype=np.float64)
    layers = tokens * np.asarray(told["mean_exit_layer"])
    costs = [told[name] for name in ("flops", "full_flops", "bytes", "full_bytes")]
    return np.stack(
        [told["same"], told["em"], layers, tokens * point.depth, *map(np.asarray, costs)], axis=1
    ).astype(np.float64)


def _full(point: Point) -> Floats:
    """The full model, which every way is where no threshold is safe. Its exact match is not in the
    columns of single questions, so that of the mean stands in for each."""
    columns = _columns(point)
    columns[:, SAME], columns[:, RIGHT] = 1.0, point.full_metrics["em"]
    for spent, full in ((LAYERS, FULL_LAYERS), (FLOPS, FULL_FLOPS), (BYTES, FULL_BYTES)):
        columns[:, spent] = columns[:, full]
    return columns
