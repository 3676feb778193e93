"""Whole tasks on a model: fitted to its context, answered or weighed, and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from dynexit.errors import UserError
from dynexit.evaluation.choices import Weighed, measure_choices, weigh_all
from dynexit.evaluation.fitting import fitted
from dynexit.evaluation.forced import forced_agreement
from dynexit.evaluation.measure import Measurement, measure
from dynexit.evaluation.runner import FULL, Answer, answer_all
from dynexit.evaluation.tasks import Task
from dynexit.evaluation.ways import Verified, Way, policy_of
from dynexit.exits.policy import ExitPolicy
from dynexit.models.config import BackboneConfig
from dynexit.models.loading import Model
from dynexit.workers import ALONE, Workers

_WAY = "early"
Made = TypeVar("Made", Answer, Weighed)
Measure = Callable[[Sequence[Made], Sequence[Made], BackboneConfig, ExitPolicy | None], Measurement]


@dataclass(frozen=True)
class Result:
    """What came of a task. ``skipped`` questions did not fit the model's context and are not in
    ``found``; ``kinds`` has the metrics, and the number ``n``, of each kind of question (the
    domains of CoQA, the categories of TruthfulQA)."""

    found: Measurement
    skipped: int
    kinds: dict[str, dict[str, float]]


def run_tasks(
    model: Model,
    asked: Mapping[str, Sequence[Task]],
    way: Way,
    tick: Callable[[], None] = lambda: None,
    batch: int = 1,
    workers: Workers = ALONE,
) -> dict[str, Result]:
    """Results by task; a name that stands for several has theirs before its own over all.

    ``batch`` questions are answered at once, and ``workers`` share them; each has all results, but
    for times, which are its own. ``tick`` is called once for each question, also for
    those that are skipped. Raises ``UserError`` where no question of a task fits the context, and
    where drafts are asked of one that decodes nothing.
    """
    _check(asked, way)
    policy = policy_of(way)
    results: dict[str, Result] = {}
    for name, parts in asked.items():
        whole = [fitted(model, part) for part in parts]
        skipped = {
            part.name: len(part.questions) - len(short.questions)
            for part, short in zip(parts, whole, strict=True)
        }
        for _ in range(sum(skipped.values())):
            tick()
        if not any(part.questions for part in whole):
            raise UserError(f"task {name}: no question fits the context of {model.name}")
        config = model.backbone.config
        if any(part.weigh is not None for part in parts):
            policies = {_WAY: policy} if policy else {}
            weighed = weigh_all(model, whole, policies, tick, batch, workers)
            results |= _measured(name, skipped, weighed, measure_choices, config, policy)
        else:
            ways = {_WAY: way} if way else {}
            answers = answer_all(model, whole, ways, tick, batch, workers)
            measure_these = _measuring(model, answers[FULL], way, workers)
            results |= _measured(name, skipped, answers, measure_these, config, policy)
    return results


def _check(asked: Mapping[str, Sequence[Task]], way: Way) -> None:
    choices = [name for name, parts in asked.items() if any(part.weigh for part in parts)]
    if choices and isinstance(way, Verified):
        raise UserError(
            f"task {choices[0]} is multiple choice: nothing is decoded, so there is nothing to "
            "draft; leave it or --lossless out"
        )


def _measuring(model: Model, full: Sequence[Answer], way: Way, workers: Workers) -> Measure[Answer]:
    """``measure``, with agreement along the full model's answers where prompts are known and exits
    have the last word."""
    if not isinstance(way, ExitPolicy) or any(answer.question.pieces for answer in full):
        return measure
    agreeing = forced_agreement(model, full, way, workers=workers)
    known = {id(answer): count for answer, count in zip(full, agreeing, strict=True)}

    def measured(
        some: Sequence[Answer],
        early: Sequence[Answer],
        config: BackboneConfig,
        policy: ExitPolicy | None,
    ) -> Measurement:
        return measure(some, early, config, policy, [known[id(answer)] for answer in some])

    return measured


def _measured(
    name: str,
    skipped: Mapping[str, int],
    made: Mapping[str, Sequence[Made]],
    measure_these: Measure[Made],
    config: BackboneConfig,
    policy: ExitPolicy | None,
) -> dict[str, Result]:
    """The result of each part of ``name``, then of all its parts together."""
    early = FULL if policy is None else _WAY
    results: dict[str, Result] = {}
    for group in dict.fromkeys((*skipped, name)):
        members = set(skipped) if group == name else {group}
        full, ours = (
            [one for one in made[way] if one.task.name in members] for way in (FULL, early)
        )
        found = measure_these(full, ours, config, policy)
        left_out = sum(skipped[member] for member in members)
        results[group] = Result(found, left_out, _by_kind(ours))
    return results


def _by_kind(made: Sequence[Made]) -> dict[str, dict[str, float]]:
    """Number and mean metrics of each named kind of question."""
    groups: dict[str, list[Mapping[str, float]]] = {}
    for one in made:
        if one.question.kind:
            groups.setdefault(one.question.kind, []).append(one.scores)
    return {
        kind: {"n": len(scores)} | {name: fmean(s[name] for s in scores) for name in scores[0]}
        for kind, scores in sorted(groups.items())
    }
