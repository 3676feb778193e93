"""The best ways of decoding in a sweep: no other keeps as much for less."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynexit.evaluation.pareto import front
from dynexit.evaluation.points import Point

# As a share of the full model's; None where it was not measured.
COSTS: dict[str, Callable[[Point], float | None]] = {
    "flops": lambda point: 1.0 - point.flop_saving,
    "bytes": lambda point: 1.0 - point.byte_saving,
    "time": lambda point: 1.0 / point.speedup if point.speedup else None,
}
VALUES: dict[str, Callable[[Point], float | None]] = {
    "accuracy": lambda point: point.accuracy,
    "consistency": lambda point: point.consistency["answers"],
}


def fronts(points: Sequence[Point], task: str) -> dict[str, dict[str, list[Point]]]:
    """For a task, by value and by cost, the ways that are best and cheaper than the full model, in
    ascending cost. Costs that no point has are left out."""
    own = [point for point in points if point.task == task]
    found: dict[str, dict[str, list[Point]]] = {}
    for value, value_of in VALUES.items():
        found[value] = {}
        for cost, cost_of in COSTS.items():
            known = [
                (c, v, point)
                for point in own
                if (c := cost_of(point)) is not None and (v := value_of(point)) is not None
            ]
            cheaper = [one for one in known if one[0] < 1.0]
            if known:
                best = front(cheaper, cost=lambda one: one[0], value=lambda one: one[1])
                found[value][cost] = [point for _, _, point in best]
    return found
