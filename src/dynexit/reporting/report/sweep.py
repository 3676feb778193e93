"""A sweep as the report reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynexit.calibration.certificate import Certificate


@dataclass(frozen=True)
class Point:
    """One setting on one task, of one seed or (``settings.average_seeds``) the mean of several.

    ``threshold`` is a number, one an exit, or None. ``questions`` holds lists with an entry a
    question. What was not measured is None, or absent from a mapping.
    """

    backbone: str
    judge: str
    top_k: int | None
    seeds: tuple[int, ...]
    layers: tuple[int, ...]
    depth: int
    state: str
    threshold: float | tuple[float, ...] | None
    task: str
    n: int
    metrics: Mapping[str, float]
    full_metrics: Mapping[str, float]
    consistency: Mapping[str, float]
    flop_saving: float
    mean_exit_layer: float | None
    layer_saving: float | None
    byte_saving: float | None
    speedup: float | None
    replayed: float | None
    exit_layers: Mapping[int, int]
    questions: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Reliability:
    """An exit's scores against what they should tell: ``bins`` are (mean score, share of tokens
    whose token at the exit is the full model's, count)."""

    backbone: str
    judge: str
    top_k: int | None
    seed: int | None
    task: str
    exit_layer: int
    depth: int
    bins: tuple[tuple[float, float, int], ...]
    auroc: float | None
    ece: float | None


@dataclass(frozen=True)
class Token:
    text: str
    exit_layer: int
    score: float | None


@dataclass(frozen=True)
class Example:
    """An answer token by token beside the full model's."""

    backbone: str
    depth: int
    judge: str
    state: str
    threshold: float | tuple[float, ...] | None
    task: str
    prompt: str
    full_text: str
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Sweep:
    """One sweep's directory. ``about`` is its ``sweep.json``; ``certificates`` are those
    of every ``calibration.json`` in it."""

    directory: Path
    backbone: str
    about: Mapping[str, Any]
    points: tuple[Point, ...]
    reliability: tuple[Reliability, ...]
    examples: tuple[Example, ...]
    certificates: tuple[Certificate, ...]

    @property
    def pooled(self) -> set[str]:
        """Tasks that hold the questions of several others, which alone ``sweep.json`` names."""
        named = self.about.get("tasks")
        parts = set(named) if isinstance(named, dict) else set()
        tasks = {point.task for point in self.points}
        return tasks - parts if parts & tasks else set()
