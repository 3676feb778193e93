"""Modes side by side on the reference pair: full depth, exits, bounded and lossless drafts.

    python studies/modes/run.py

answers the questions of the reference tasks in every mode and writes ``tables.md`` and
``results.json`` beside this file. Stopped at any moment, the same command goes on with the tasks
that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from modes import FULL_DEPTH, Mode, modes
from modes_table import ALL, as_json, table

from dynexit.commands.output import counting, note
from dynexit.errors import UserError
from dynexit.evaluation.jsonl import Journal
from dynexit.evaluation.measure import Measurement, measure
from dynexit.evaluation.runner import FULL, Answer, answer_all
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.evaluation.ways import policy_of
from dynexit.files import atomic_path, write_json
from dynexit.inference.generation import Generation
from dynexit.models import load_model
from dynexit.models.loading import Model
from dynexit.reference.pair import NAMES

HERE = Path(__file__).parent
ABOUT = """# Modes side by side

Made by `python studies/modes/run.py`: {n} questions of each reference task, greedy, one answer at a
time, in all modes question by question, so that speed is compared within one run. What layers and
bytes save is counted: with drafts a layer is read once for all tokens that go through it together.
"""
Found = dict[str, dict[str, Measurement]]  # by mode, then by task


def main(
    work: Annotated[Path, typer.Option(help="where answers are kept")] = Path("runs/modes"),
    out: Annotated[Path, typer.Option(help="where the tables go")] = HERE,
    model: Annotated[str, typer.Option(help="mistral, mamba2 or both")] = "both",
    limit: Annotated[int, typer.Option(min=1, help="questions of each task")] = 100,
) -> None:
    """Answer all that is missing, then write the tables."""
    try:
        tasks = reference_tasks(limit)
        done = {}
        for name in NAMES if model == "both" else (model,):
            loaded = load_model(f"reference:{name}")
            ways = modes(loaded)
            found = _study(loaded, ways, tasks, work / f"{name}.jsonl")
            done[loaded.name] = (ways, found)
        _write(done, tasks, limit, out)
    except UserError as error:
        note(f"study: {error}")
        raise typer.Exit(2) from None


def _study(model: Model, ways: Sequence[Mode], tasks: Sequence[Task], path: Path) -> Found:
    journal = Journal(path, lambda row: (row["task"], row["mode"], row["question"]))
    for task in tasks:
        _answer(model, task, ways, journal)
    rows = {(row["task"], row["mode"], row["question"]): row for row in journal.rows}
    answers = {
        mode.name: [
            Answer(task, question, Generation.from_json(rows[task.name, mode.id, question.prompt]))
            for task in tasks
            for question in task.questions
        ]
        for mode in ways
    }
    return {mode.name: _measured(model, tasks, answers, mode) for mode in ways}


def _answer(model: Model, task: Task, ways: Sequence[Mode], journal: Journal) -> None:
    """Answer in all modes the questions that lack any, and keep the answers when all are there."""
    ids = {mode.name: mode.id for mode in ways}
    missing = tuple(
        question
        for question in task.questions
        if any((task.name, mode, question.prompt) not in journal for mode in ids.values())
    )
    if not missing:
        return
    part = replace(task, questions=missing)
    with counting(f"{model.name}: {task.name}", len(missing)) as tick:
        others = {mode.name: mode.way for mode in ways if mode.way is not None}
        made = answer_all(model, [part], others, tick)
    names = {FULL_DEPTH: FULL} | {name: name for name in others}
    journal.add(
        {
            "task": task.name,
            "mode": ids[mode],
            "question": answer.question.prompt,
            **asdict(answer.generation),
        }
        for mode, name in names.items()
        for answer in made[name]
    )


def _measured(
    model: Model, tasks: Sequence[Task], answers: dict[str, list[Answer]], mode: Mode
) -> dict[str, Measurement]:
    """By task, and of all of them."""
    found = {}
    for name in (*(task.name for task in tasks), ALL):
        full, own = (
            [answer for answer in answers[which] if name in (ALL, answer.task.name)]
            for which in (FULL_DEPTH, mode.name)
        )
        found[name] = measure(full, own, model.backbone.config, policy_of(mode.way))
    return found


def _write(
    done: dict[str, tuple[list[Mode], Found]], tasks: Sequence[Task], limit: int, out: Path
) -> None:
    results: dict[str, dict[str, Any]] = {}
    parts = [ABOUT.format(n=limit)]
    for model, (ways, found) in done.items():
        parts += [f"## {model}\n", table([task.name for task in tasks], found)]
        results[model] = {
            mode.name: {
                **mode.settings,
                "tasks": {name: as_json(one) for name, one in found[mode.name].items()},
            }
            for mode in ways
        }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results)
    with atomic_path(out / "tables.md") as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
