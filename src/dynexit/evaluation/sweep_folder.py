"""The directory of a sweep: what it is of, and its rows."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dynexit.errors import UserError
from dynexit.evaluation.candidates import Candidate
from dynexit.evaluation.independent import data_digest
from dynexit.evaluation.jsonl import Journal, Row
from dynexit.evaluation.points import SCHEMA, open_points
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.fingerprint import fingerprint
from dynexit.files import read_json, write_json
from dynexit.models.loading import Model

ABOUT, POINTS = "sweep.json", "points.jsonl"


class SweepFolder:
    """``sweep.json`` and the rows of points, examples, reliability and full answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.points = open_points(directory / POINTS)
        self.examples = Journal(directory / "examples.jsonl", lambda row: row.get("id"))
        self.reliability = Journal(directory / "reliability.jsonl", _reliability_key)
        self.full = Journal(directory / "full.jsonl", lambda row: (row["task"], row["question"]))


def check(directory: Path, model: Model) -> None:
    """Raise ``UserError`` if the directory holds anything but a sweep of this model."""
    path = directory / ABOUT
    if not path.exists():
        if (directory / POINTS).exists():
            raise UserError(f"{directory} has points but no {ABOUT}; choose another --out")
        return
    old, new = read_json(path), _identity(model)
    if old.get("schema") != SCHEMA:
        raise UserError(
            f"{path} has schema {old.get('schema')!r}, this dynexit writes {SCHEMA}; "
            "choose another --out"
        )
    if missing := [name for name in ("digests", "tasks", "grid", *new) if name not in old]:
        raise UserError(f"{path} has no {missing[0]!r}; choose another --out")
    _check_shape(path, old)
    if any(old[name] != value for name, value in new.items() if name != "model"):
        raise UserError(
            f"{directory} holds a sweep of {old['model']}, with other weights or another dtype; "
            "choose another --out"
        )


def _check_shape(path: Path, old: Mapping[str, Any]) -> None:
    """Raise ``UserError`` unless what a sweep is added to has the types that are added."""
    digests, grid = old["digests"], old["grid"]
    maps = [old["tasks"], grid, digests]
    if isinstance(digests, Mapping):
        maps += [digests.get("tasks"), digests.get("judges")]
    lists = grid.values() if isinstance(grid, Mapping) else ()
    sound = all(isinstance(one, Mapping) for one in maps) and all(
        isinstance(one, list) for one in lists
    )
    try:  # it is written again
        json.dumps(maps, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except ValueError:
        sound = False
    if not sound:
        raise UserError(
            f"{path} has tasks, digests or a grid of another form; choose another --out"
        )


def _identity(model: Model) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": model.name,
        "fingerprint": asdict(fingerprint(model.backbone)),
        "family": model.backbone.config.family,
        "depth": model.backbone.depth,
        "dtype": str(model.backbone.embedding.weight.dtype).removeprefix("torch."),
    }


def describe(
    directory: Path,
    model: Model,
    tasks: Mapping[str, Sequence[Task]],
    candidates: Sequence[Candidate],
    grid: Mapping[str, Sequence[Any]],
    command: str,
) -> None:
    """Write ``sweep.json``, or add to that of a sweep of the same model (see ``check``); a
    ``UserError`` where it had other questions in a task or other weights in a judge."""
    content = _content(model, tasks, candidates, grid, command)
    path = directory / ABOUT
    if path.exists():
        content = _merged(path, read_json(path), content)
    write_json(path, content)


def _content(
    model: Model,
    tasks: Mapping[str, Sequence[Task]],
    candidates: Sequence[Candidate],
    grid: Mapping[str, Sequence[Any]],
    command: str,
) -> dict[str, Any]:
    parts = [part for group in tasks.values() for part in group]
    return {
        **_identity(model),
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("dynexit", "torch", "transformers")},
        },
        "machine": _machine(),
        "grid": {name: _union([], values) for name, values in grid.items()},
        "tasks": {part.name: len(part.questions) for part in parts},
        "digests": {
            "tasks": {part.name: data_digest([part]) for part in parts},
            "judges": {candidate.name: candidate.digest for candidate in candidates},
        },
    }


def _merged(path: Path, old: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The sweep that was, with what this one adds to it."""
    told = {"tasks": "other questions of", "judges": "another training of"}
    for field, what in told.items():
        known, now = old["digests"][field], new["digests"][field]
        if changed := [name for name in now if known.get(name, now[name]) != now[name]]:
            raise UserError(
                f"{path.parent} holds a sweep with {what} {changed[0]}; choose another --out"
            )
        new["digests"][field] = known | now
    new["tasks"] = old["tasks"] | new["tasks"]
    grid = {name: _union(old["grid"].get(name, []), part) for name, part in new["grid"].items()}
    return new | {"grid": grid}


def _union(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    found = list(old)
    for value in new:
        if value not in found:
            found.append(value)
    return found


def _machine() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": device,
    }


def _reliability_key(row: Row) -> object:
    fields = ("judge", "top_k", "seed", "task", "exit_layer")
    return (*(row.get(name) for name in fields), tuple(row.get("layers") or ()))
