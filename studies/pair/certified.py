"""The most that can be saved on each task with a certificate.

Which judge, state policy and seed are tried at a risk is chosen on the sweep's questions, so the
questions of the certificate serve one sequence of tests for each risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dynexit.evaluation.candidates import Candidate
from dynexit.evaluation.certify import Calibration, Rung, certify
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.demo import EXACT
from dynexit.evaluation.independent import calibration_tasks
from dynexit.evaluation.losses import loss_of
from dynexit.evaluation.points import Point, Setting
from dynexit.evaluation.tasks.task import Task
from dynexit.models.loading import Model

QUESTIONS = 300  # a task
MARGIN = 0.5  # of the risk: how much the sweep's own textual loss may be


@dataclass(frozen=True)
class Certified:
    """The setting tried for a task at a risk, and what came of it."""

    task: str
    setting: Setting
    rung: Rung


def certified(
    model: Model,
    points: Sequence[Point],
    candidates: Sequence[Candidate],
    risks: Sequence[float],
    confidence: float,
    counting: Counting,
    work: Path,
) -> list[Certified]:
    """One for each reference task and risk. ``risks`` bound the textual loss, 1 - ROUGE-L."""
    judges = {candidate.name: candidate for candidate in candidates}
    found = []
    for task in calibration_tasks(["reference"], QUESTIONS, None):
        ways: dict[tuple[str, str], list[float]] = {}
        chosen = {risk: _boldest(points, task, risk) for risk in risks}
        for risk, setting in chosen.items():
            ways.setdefault((setting.judge_id, setting.state), []).append(risk)
        for (judge, state), own in ways.items():
            policy = judges[judge].policy(state, 1.0)
            wanted = Calibration(model, policy, [task], loss_of("text", [task]), own, confidence)
            rungs = zip(own, certify(wanted, counting, work), strict=True)
            found += [Certified(task.name, chosen[risk], rung) for risk, rung in rungs]
    return found


def _boldest(points: Sequence[Point], task: Task, risk: float) -> Setting:
    """Saves most FLOPs with a textual loss well under the risk; else has the least loss. With exact
    states only, whose thresholds are replayed: others decode every question for each of them."""
    own = [point for point in points if point.task == task.name and point.state == EXACT]
    safe = [point for point in own if _loss(point) <= MARGIN * risk]
    if safe:
        return max(safe, key=lambda point: point.flop_saving).setting
    return min(own, key=_loss).setting


def _loss(point: Point) -> float:
    return 1.0 - (point.consistency["rouge_l"] or 0.0)


def as_json(found: Certified) -> dict[str, object]:
    """For ``results.json``."""
    outcome, cost = found.rung.outcome, found.rung.cost
    return {
        "task": found.task,
        "judge": found.setting.judge_name,
        "state": found.setting.state,
        "risk": outcome.risk,
        "confidence": outcome.confidence,
        "n": outcome.n,
        "valid": outcome.valid,
        "threshold": outcome.best.threshold if outcome.valid else None,
        "empirical_risk": outcome.best.empirical,
        "flop_saving": cost.flop_saving if outcome.valid else 0.0,
        "layer_saving": cost.layer_saving if outcome.valid else 0.0,
    }
