"""The study's tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis import (
    Outcome,
    accuracy,
    byte_saving,
    consistency,
    difference,
    flop_saving,
    layer_saving,
)
from certified import Certified

from dynexit.evaluation.bootstrap import Interval

FIGURES = (consistency, accuracy, layer_saving, flop_saving, byte_saving)
HEADS = ("answers kept", "exact match", "layers saved", "FLOPs saved", "bytes saved")


def outcome_table(outcomes: Iterable[Outcome]) -> str:
    """A row a way, those that save most FLOPs first."""
    rows = [
        [
            way.way.judge,
            way.way.state,
            "" if way.way.top_k is None else str(way.way.top_k),
            ", ".join(map(str, way.way.layers)),
            ", ".join("none" if t is None else f"{t:g}" for t in way.thresholds),
            *(_with_interval(*way.figure(figure)) for figure in FIGURES),
        ]
        for way in sorted(outcomes, key=lambda way: -way.figure(flop_saving)[0])
    ]
    return table(["judge", "state", "k", "exit layers", "thresholds by seed", *HEADS], rows)


def comparison_table(pairs: Sequence[tuple[str, Outcome, Outcome]]) -> str:
    """What the first of each pair saves and keeps beyond the second, in points of percent."""
    rows = [
        [name, *(_gap(*difference(first, second, figure)) for figure in FIGURES)]
        for name, first, second in pairs
    ]
    return table(["first - second", *HEADS], rows)


def certified_table(found: Sequence[Certified]) -> str:
    """A row a task and risk."""
    rows = [_certified_row(one) for one in found]
    heads = ["task", "judge, state", "risk", "n", "threshold", "loss found"]
    return table([*heads, "FLOPs saved", "layers saved"], rows)


def _certified_row(one: Certified) -> list[str]:
    outcome, cost = one.rung.outcome, one.rung.cost
    saved = (cost.flop_saving, cost.layer_saving) if outcome.valid else (0.0, 0.0)
    return [
        one.task,
        f"{one.setting.judge_name}, {one.setting.state}",
        f"{outcome.risk:g}",
        str(outcome.n),
        f"{outcome.best.threshold:g}" if outcome.valid else "none is valid",
        f"{outcome.best.empirical:.4f}",
        *map(percent, saved),
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _with_interval(value: float, interval: Interval) -> str:
    return f"{percent(value)} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def _gap(value: float, interval: Interval) -> str:
    return f"{100 * value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
