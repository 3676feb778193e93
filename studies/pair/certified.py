"""The most that can be saved on each task with a certificate.

Which judge, state policy and seed are tried is chosen on the sweep's questions, so the questions of
the certificate are used for one sequence of tests only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dynexit.evaluation.candidates import Candidate
from dynexit.evaluation.certify import Calibration, Rung, certify
from dynexit.evaluation.independent import calibration_tasks
from dynexit.evaluation.losses import loss_of
from dynexit.evaluation.points import Point, Setting
from dynexit.evaluation.sweep import Counting
from dynexit.evaluation.tasks.task import Task
from dynexit.models.loading import Model

QUESTIONS = 300  # a task
MARGIN = 0.5  # of the risk: how much the sweep's own textual loss may be


@dataclass(frozen=True)
class Certified:
    """The setting tried for a task, and what came of it at each risk."""

    task: str
    setting: Setting
    rungs: list[Rung]


def certified(
    model: Model,
    points: Sequence[Point],
    candidates: Sequence[Candidate],
    risks: Sequence[float],
    confidence: float,
    counting: Counting,
    work: Path,
) -> list[Certified]:
    """One for each reference task. ``risks`` bound the textual loss, 1 - ROUGE-L."""
    judges = {candidate.name: candidate for candidate in candidates}
    found = []
    for task in calibration_tasks(["reference"], QUESTIONS, None):
        setting = _boldest(points, task, max(risks))
        policy = judges[setting.judge_id].policy(setting.state, setting.threshold)
        loss = loss_of("text", [task])
        wanted = Calibration(model, policy, [task], loss, risks, confidence)
        found.append(Certified(task.name, setting, certify(wanted, counting, work)))
    return found


def _boldest(points: Sequence[Point], task: Task, risk: float) -> Setting:
    """Saves most FLOPs with a textual loss well under the risk; else has the least loss."""
    own = [point for point in points if point.task == task.name]
    safe = [point for point in own if _loss(point) <= MARGIN * risk]
    if safe:
        return max(safe, key=lambda point: point.flop_saving).setting
    return min(own, key=_loss).setting


def _loss(point: Point) -> float:
    return 1.0 - (point.consistency["rouge_l"] or 0.0)


def as_json(found: Certified) -> dict[str, object]:
    """For ``results.json``."""
    return {
        "task": found.task,
        "setting": asdict(found.setting),
        "risks": [
            {
                "risk": rung.outcome.risk,
                "confidence": rung.outcome.confidence,
                "n": rung.outcome.n,
                "valid": rung.outcome.valid,
                "threshold": rung.outcome.best.threshold if rung.outcome.valid else None,
                "empirical_risk": rung.outcome.best.empirical,
                "flop_saving": rung.cost.flop_saving if rung.outcome.valid else 0.0,
                "layer_saving": rung.cost.layer_saving if rung.outcome.valid else 0.0,
            }
            for rung in found.rungs
        ],
    }
