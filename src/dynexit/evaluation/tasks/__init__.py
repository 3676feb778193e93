"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from dynexit.errors import UserError
from dynexit.evaluation.tasks.coqa import coqa
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import HISTORIES, History, Question, Source, Task
from dynexit.evaluation.tasks.triviaqa import triviaqa, triviaqa_evidence
from dynexit.evaluation.tasks.truthfulqa import truthfulqa, truthfulqa_mc

__all__ = ["NAMES", "Question", "Source", "Task", "load_tasks"]

_TASKS: dict[str, Callable[[Source], list[Task]]] = {
    "reference": lambda source: reference_tasks(source.limit),
    "truthfulqa": truthfulqa,
    "truthfulqa_mc": truthfulqa_mc,
    "coqa": coqa,
    "triviaqa": triviaqa,
    "triviaqa_evidence": triviaqa_evidence,
}
NAMES = tuple(_TASKS)


def load_tasks(
    names: Sequence[str],
    limit: int | None = None,
    data: Path | None = None,
    history: str = "gold",
) -> dict[str, list[Task]]:
    """The tasks of each name, in the order given; one name may stand for several.

    ``data`` is the directory of the official files (None: the hub), ``history`` "gold" or "own".
    """
    if not names:
        raise UserError(f"--tasks: no task named; known are {', '.join(NAMES)}")
    for name in names:
        if name not in _TASKS:
            near = get_close_matches(name, NAMES, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            known = ", ".join(NAMES)
            raise UserError(f"--tasks: task {name!r} is not known; known are {known}{meant}")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 question is needed")
    source = Source(limit, data, _history(history))
    return {name: _TASKS[name](source) for name in dict.fromkeys(names)}


def _history(name: str) -> History:
    for known in HISTORIES:
        if name == known:
            return known
    raise UserError(f"--history {name!r} is not known; choose gold or own")
