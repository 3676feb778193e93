"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dynexit.errors import UserError
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Question, Task

__all__ = ["Question", "Task", "load_tasks"]

# What is made of a limit of questions and the directory of official files, by name.
_TASKS: dict[str, Callable[[int | None, Path | None], list[Task]]] = {
    "reference": lambda limit, data: reference_tasks(limit),
}


def load_tasks(
    names: Sequence[str], limit: int | None = None, data: Path | None = None
) -> dict[str, list[Task]]:
    """The tasks of each name, in the order given; one name may stand for several."""
    known = ", ".join(_TASKS)
    if not names:
        raise UserError(f"--tasks: no task named; known are {known}")
    for name in names:
        if name not in _TASKS:
            raise UserError(f"--tasks: task {name!r} is not known; known are {known}")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 question is needed")
    return {name: _TASKS[name](limit, data) for name in dict.fromkeys(names)}
