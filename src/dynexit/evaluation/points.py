"""A point of a sweep: one way of decoding on one task, against the full model, as a row of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.consistency import compare
from dynexit.evaluation.jsonl import Journal, Row
from dynexit.evaluation.runner import Answer
from dynexit.inference.cost import DecodingCost

SCHEMA = 1


@dataclass(frozen=True)
class Setting:
    """What tells one way of decoding from another: the judge and how it was trained (None where it
    needs no training, or it is not known), the exit layers, the state policy and the threshold."""

    judge: str
    top_k: int | None
    seed: int | None
    layers: tuple[int, ...]
    state: str
    threshold: float

    @property
    def judge_name(self) -> str:
        """The name of the judge with its training."""
        return self.judge + ("" if self.top_k is None else f"-k{self.top_k}-s{self.seed}")

    @property
    def judge_id(self) -> str:
        """The name of the judge with its training and exit layers."""
        return f"{self.judge_name}/{','.join(map(str, self.layers))}"

    def id(self, task: str) -> str:
        """The name of this way's point on a task."""
        return f"{self.judge_id}/{self.state}/{self.threshold!r}/{task}"


@dataclass(frozen=True)
class Compared:
    """A question answered by the full model and with exits.

    ``replayed`` where nothing was decoded for it. ``agreeing`` counts the tokens of the full
    model's answer which exits would have given too, each after the full model's own tokens (None
    where that is not known, as no replay tells).
    """

    full: Answer
    early: Answer
    cost: DecodingCost
    replayed: bool = False
    agreeing: int | None = None


@dataclass(frozen=True)
class Point:
    """One row of ``points.jsonl``; see ``Setting`` for the first fields.

    Savings are shares of the full model's layers, FLOPs and bytes; ``exit_layers`` counts tokens;
    ``replayed`` is the share of answers known exactly without decoding; ``speedup`` (decoding
    seconds of the full model over this way's, side by side) is None where time was not measured.
    ``questions`` holds columns, each with a value for every question.
    """

    id: str
    model: str
    judge: str
    top_k: int | None
    seed: int | None
    layers: tuple[int, ...]
    depth: int
    state: str
    threshold: float
    task: str
    n: int
    metrics: Mapping[str, float]
    full_metrics: Mapping[str, float]
    consistency: Mapping[str, float | None]
    mean_exit_layer: float
    layer_saving: float
    flop_saving: float
    byte_saving: float
    speedup: float | None
    exit_layers: Mapping[int, int]
    replayed: float
    questions: Mapping[str, Sequence[Any]]

    @property
    def accuracy(self) -> float | None:
        """Exact match, or the task's first metric where it has none."""
        return self.metrics.get("em", next(iter(self.metrics.values()), None))

    @property
    def setting(self) -> Setting:
        """The way of decoding that this is a point of."""
        return Setting(self.judge, self.top_k, self.seed, self.layers, self.state, self.threshold)

    def as_json(self, questions: bool = True) -> dict[str, Any]:
        """The row, with or without the columns of its questions."""
        row = {"schema": SCHEMA, **asdict(self)}
        row["exit_layers"] = {str(layer): count for layer, count in self.exit_layers.items()}
        row["layers"] = list(self.layers)
        if not questions:
            del row["questions"]
        return row

    @classmethod
    def from_json(cls, row: Row) -> Point:
        """The point of a row that ``as_json`` made."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        exits = {int(layer): count for layer, count in row["exit_layers"].items()}
        return cls(**{**fields, "layers": tuple(row["layers"]), "exit_layers": exits})


def make_point(model: str, setting: Setting, task: str, compared: Sequence[Compared]) -> Point:
    """The point of at least one question."""
    depth = compared[0].full.generation.layers
    full, early = [c.full for c in compared], [c.early for c in compared]
    cost = sum((c.cost for c in compared), DecodingCost())
    layers = Counter(token.exit_layer for a in early for token in a.generation.tokens)
    scores = [dict(a.scores) for a in early]
    full_scores = [dict(a.scores) for a in full]
    return Point(
        id=setting.id(task),
        model=model,
        judge=setting.judge,
        top_k=setting.top_k,
        seed=setting.seed,
        layers=setting.layers,
        depth=depth,
        state=setting.state,
        threshold=setting.threshold,
        task=task,
        n=len(compared),
        metrics=_means(scores),
        full_metrics=_means(full_scores),
        consistency=_consistency(compared),
        mean_exit_layer=depth * (1.0 - cost.layer_saving),
        layer_saving=cost.layer_saving,
        flop_saving=cost.flop_saving,
        byte_saving=cost.byte_saving,
        speedup=None,
        exit_layers=dict(sorted(layers.items())),
        replayed=fmean(c.replayed for c in compared),
        questions=_columns(compared, scores),
    )


def open_points(path: Path) -> Journal:
    """The points in a file, known by their ids; ``UserError`` for rows of another schema."""
    journal = Journal(path, lambda row: row.get("id"))
    for row in journal.rows:
        if row.get("schema") != SCHEMA:
            raise UserError(
                f"{path} holds points of schema {row.get('schema')!r}, this dynexit writes "
                f"{SCHEMA}; choose another --out"
            )
        missing = [name for name in Point.__dataclass_fields__ if name not in row]
        if missing:
            raise UserError(f"{path}: a point has no {missing[0]!r}; remove its line and run again")
        if wrong := next(_wrong(row), None):
            raise UserError(
                f"{path}: {wrong} of a point is of another form; remove its line and run again"
            )
    return journal


def _wrong(row: Row) -> Iterator[str]:
    """The fields of a row that are not of the type that a point has there."""
    types: dict[str, Any] = {"str": str, "int": int, "float": int | float}
    types |= {"int | None": int | None, "float | None": int | float | None}
    types["tuple[int, ...]"] = list
    for field in fields(Point):
        wanted = types.get(str(field.type), Mapping)
        value = row[field.name]
        if not isinstance(value, wanted) or (isinstance(value, float) and not isfinite(value)):
            yield field.name
    for name in ("metrics", "full_metrics", "consistency", "exit_layers"):
        numbers = row[name].values()
        if not all(value is None or isinstance(value, int | float) for value in numbers):
            yield name
    if not all(layer.isdecimal() for layer in row["exit_layers"]):
        yield "exit_layers"
    if not all(isinstance(column, list) for column in row["questions"].values()):
        yield "questions"


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the metrics that every question has."""
    shared = [name for name in scores[0] if all(name in s for s in scores)]
    return {name: fmean(s[name] for s in scores) for name in shared}


def _consistency(compared: Sequence[Compared]) -> dict[str, float | None]:
    full = [c.full.generation for c in compared]
    early = [c.early.generation for c in compared]
    agreeing = [c.agreeing for c in compared if c.agreeing is not None]
    found = compare(full, early, agreeing if len(agreeing) == len(compared) else None)
    names = ("answers", "tokens", "agreed", "rouge_l", "teacher_forced")
    return {name: getattr(found, name) for name in names}


def _columns(
    compared: Sequence[Compared], scores: Sequence[Mapping[str, float]]
) -> dict[str, list[Any]]:
    early = [c.early for c in compared]
    return {
        **{name: [s[name] for s in scores] for name in _means(scores)},
        "same": [int(c.full.generation.ids == c.early.generation.ids) for c in compared],
        "flops": [c.cost.flops for c in compared],
        "full_flops": [c.cost.full_flops for c in compared],
        "bytes": [c.cost.bytes for c in compared],
        "full_bytes": [c.cost.full_bytes for c in compared],
        "tokens": [len(a.generation.tokens) for a in early],
        "mean_exit_layer": [a.generation.mean_exit_layer for a in early],
        "level": [a.question.level for a in early],
        "kind": [a.question.kind for a in early],
    }
