"""How long the best points of a sweep take, beside the full model in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dynexit.evaluation.candidates import Candidate
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.fronts import fronts
from dynexit.evaluation.jsonl import Journal
from dynexit.evaluation.points import Point, Setting
from dynexit.evaluation.runner import FULL, Answer, answer_all
from dynexit.evaluation.tasks.task import Task
from dynexit.models.loading import Model


def time_best(
    model: Model,
    tasks: Mapping[str, Sequence[Task]],
    candidates: Sequence[Candidate],
    points: Journal,
    questions: int,
    counting: Counting,
) -> None:
    """Measure the speedup of the points on a front of FLOPs or bytes that have none yet, over about
    ``questions`` questions of each name in ``tasks``, and put it into their rows.

    One text at a time; every question is answered by all of them, and by the full model, before
    the next one. Done for all points at once or not at all.
    """
    judges = {candidate.name: candidate for candidate in candidates}
    all_points = [Point.from_json(row) for row in points.rows]
    speedups: dict[str, float] = {}
    for name, parts in tasks.items():
        best = [setting for setting in _best(all_points, name) if setting.judge_id in judges]
        if not best:
            continue
        ways = {s.id(""): judges[s.judge_id].policy(s.state, s.threshold) for s in best}
        share = -(-questions // len(parts))
        some = [replace(part, questions=part.questions[:share]) for part in parts]
        with counting(f"{model.name}: time", sum(len(part.questions) for part in some)) as tick:
            answers = answer_all(model, some, ways, tick)
        for task in dict.fromkeys((*(part.name for part in parts), name)):
            members = {part.name for part in parts} if task == name else {task}
            full = _seconds(answers[FULL], members)
            for setting in best:
                speedups[setting.id(task)] = full / _seconds(answers[setting.id("")], members)
    if speedups:
        timed = [replace(p, speedup=speedups.get(p.id, p.speedup)) for p in all_points]
        points.rewrite([point.as_json() for point in timed])


def _best(points: Sequence[Point], task: str) -> list[Setting]:
    """The settings on any front of the task whose time is not known."""
    found = fronts(points, task)
    best = [p for by in found.values() for cost in ("flops", "bytes") for p in by.get(cost, [])]
    return list(dict.fromkeys(p.setting for p in best if p.speedup is None))


def _seconds(answers: Sequence[Answer], tasks: set[str]) -> float:
    return sum(a.generation.seconds for a in answers if a.task.name in tasks)
