"""What is killed: every command that works for long, small enough to be killed often."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints import make_checkpoint
from dynexit.cli import app
from dynexit.models.loading import load_model
from dynexit.training import ExitRecipe, collect_store

# What two runs of the same work may differ in: when they ran and how long they took.
OF_THE_CLOCK = {"date", "seconds", "prefill_seconds", "speedup", "tokens_per_second", "machine"}
Result = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """Work in a directory that is begun by ``run``, and by ``run`` again goes on after a kill.

    ``result`` is what came of it, by file; ``whole`` are the outputs that are whole or not there.
    """

    name: str
    run: Callable[[Path], None]
    result: Callable[[Path], Result]
    whole: tuple[str, ...] = ()


def make_inputs(place: Path) -> None:
    """The checkpoint, the prompts and the texts that the operations share."""
    make_checkpoint(place / "model", "mistral", depth=3)
    lines = [json.dumps({"prompt": f"Question: what is {n} and {n * n}?"}) for n in range(12)]
    (place / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    texts = (f"The square of {n} is {n * n}.\n" for n in range(12))
    (place / "texts.txt").write_text("".join(texts))


def operations(inputs: Path) -> dict[str, Operation]:
    """All operations on the inputs that ``make_inputs`` made."""
    model, prompts = str(inputs / "model"), str(inputs / "prompts.jsonl")
    layers = ("--layers", "1,2")
    training = (*layers, "--data", prompts, "--max-new-tokens", "6", "--epochs", "4")
    asked = ("--data", prompts, "--max-new-tokens", "6", "--risk", "0.5,0.9")
    tuning = ("--data", str(inputs / "texts.txt"), "--steps", "6", "--save-every", "2")
    sizes = ("--batch", "2", "--length", "16", "--held-out", "2")
    grid = ("--judges", "margin,entropy", "--thresholds", "0.4,0.8", "--states", "recompute,copy")

    def sweep(place: Path) -> None:
        with chdir(place):  # the command is part of the result
            _command(
                "sweep", model, *layers, *grid, "--limit", "1", "--time", "0", "--out", "sweep"
            )

    every = (
        Operation("collection", lambda place: _collect(inputs, place), lambda p: tree(p / "work")),
        Operation(
            "training",
            lambda place: _command("train-exits", model, *training, "--out", str(place / "exits")),
            lambda place: tree(place / "exits"),
            ("exits",),
        ),
        Operation(
            "fine-tuning",
            lambda place: _command("finetune", model, *tuning, *sizes, "--out", str(place / "new")),
            lambda place: tree(place / "new"),
            ("new",),
        ),
        Operation(
            "sweep",
            sweep,
            lambda place: tree(place / "sweep", leaving=("report.html", "report.md")),
        ),
        Operation(
            "calibration",
            lambda place: _command(
                *("calibrate", model, "--judge", "margin", *layers, *asked),
                *("--out", str(place / "certificates")),
            ),
            lambda place: tree(place / "certificates"),
            ("certificates/calibration.json",),
        ),
        Operation(
            "quantisation",
            lambda place: _command(
                "quantize", model, "--group", "32", "--out", str(place / "int4")
            ),
            lambda place: tree(place / "int4"),
            ("int4",),
        ),
    )
    return {operation.name: operation for operation in every}


def tree(directory: Path, leaving: tuple[str, ...] = ()) -> Result:
    """Every file below ``directory``: JSON without what is of the clock, of others the SHA-256."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        # temporary files are no part of it; that none stay behind is looked at apart
        if path.is_file() and name not in leaving and not path.name.startswith("."):
            found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        # the digest of a file of certificates is also of their dates
        left_out = OF_THE_CLOCK | ({"sha256"} if "certificates" in value else set())
        return {key: _timeless(part) for key, part in value.items() if key not in left_out}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _command(*arguments: str) -> None:
    """Run ``dynexit``; ``SystemExit`` with its code if it fails."""
    sys.argv = ["dynexit", *arguments]
    try:
        app(list(arguments), prog_name="dynexit")
    except SystemExit as end:
        if end.code:
            raise


def _collect(inputs: Path, place: Path) -> None:
    recipe = ExitRecipe(layers=(1, 2), max_new_tokens=6, shard_tokens=128)
    model = load_model(str(inputs / "model"))
    collect_store(model, recipe, place / "work", inputs / "prompts.jsonl")


def leftovers(place: Path) -> list[str]:
    """Files that belong to no result: temporary ones, locks, work that should be done with."""
    names = (str(path.relative_to(place)) for path in place.rglob("*"))
    return sorted(
        name
        for name in names
        if os.path.basename(name).startswith(".") or name.endswith((".work", ".calibration"))
    )
