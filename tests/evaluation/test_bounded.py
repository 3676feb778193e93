"""Losses by ``verify_below``: equal to those of decoding everything, resumed where they stopped,
and certified for whatever judge."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynexit.calibration import VERIFIED, fixed_sequence
from dynexit.evaluation.bounded import DRAFTS, BoundedCalibration, BoundedCurve, unchanged
from dynexit.evaluation.certify import SAFEST_FIRST, Calibration, certify
from dynexit.evaluation.losses import TEXTUAL
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.evaluation.ways import Verified
from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.generation import Drafting, GeneratedToken, Generation
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model, Placement
from evaluation.test_risk import uncounted

pytestmark = pytest.mark.slow

LAYERS = (2, 3)
ANSWER, TEXT = TEXTUAL["answer"], TEXTUAL["text"]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    short = [task for task in reference_tasks(limit=4, seed=3) if task.name != "stories"]
    return [replace(task, max_new_tokens=5) for task in short]


def exits(model: Model, kind: str = "top-probability", threshold: float = 0.01) -> ExitPolicy:
    torch.manual_seed(4)
    judge = build_judge(kind, LAYERS, model.backbone.config.hidden)
    return ExitPolicy(judge, (threshold,) * len(LAYERS), skipped_state("recompute"))


@pytest.mark.parametrize("kind", ["mamba", "top-probability"])
def test_equals_decoding_everything(model: Model, tasks: list[Task], kind: str) -> None:
    curve = BoundedCurve(model, tasks, exits(model, kind), uncounted)
    asked = [(task, question) for task in tasks for question in task.questions]
    means, reused = [], 0
    for below in (1.0, 0.6, 0.5, 0.05, 0.02, 0.0):
        reused += len(curve._unchanged(below))
        way = Verified(curve.at(below), replace(DRAFTS, verify_below=below))
        made = answer_in_batches(model, tasks, way)
        found = curve.generations(below)
        assert [g.ids for g in found] == [g.ids for g in made]
        for ours, theirs in zip(found, made, strict=True):
            assert [t.exit_layer for t in ours.tokens] == [t.exit_layer for t in theirs.tokens]
        for loss in TEXTUAL.values():
            assert curve.losses(loss, below) == [
                loss(Answer(*question, a), Answer(*question, b))
                for question, a, b in zip(asked, curve.full, made, strict=True)
            ]
        means.append(sum(curve.losses(ANSWER, below)))
    assert means[0] == 0.0  # every draft is verified
    assert max(means) > 0.0
    assert reused > 0


def test_an_answer_is_its_own(model: Model, tasks: list[Task]) -> None:
    """What else is decoded along with it, or was before, does not change it."""
    way = Verified(exits(model), replace(DRAFTS, verify_below=0.02))
    together = answer_in_batches(model, tasks, way, size=4)
    prompts = [question.prompt for task in tasks for question in task.questions]
    how = GenerationSettings(max_new_tokens=5, stop=tasks[0].stop)
    alone = [generate(model, p, how, way.policy, way.settings)[0] for p in prompts]
    assert [g.ids for g in together] == [g.ids for g in alone]
    assert [[t.exit_layer for t in g.tokens] for g in together] == [
        [t.exit_layer for t in g.tokens] for g in alone
    ]


def test_what_stays_the_same() -> None:
    tokens = (
        GeneratedToken(1, "a", 2, 0.7),
        GeneratedToken(2, "b", 2, 0.9),
        GeneratedToken(3, "c", 4, 0.2),  # at full depth: no draft
    )
    drafting = Drafting(2, 2, 1, 3, (3, 3, 1, 1), 0.0)
    answer = Generation(4, tokens, "abc", 4, 0.0, 0.0, "length", drafting)
    assert unchanged(answer, 0.8, 0.75)  # one verified, one not, before and after
    assert not unchanged(answer, 0.8, 0.7)
    assert not unchanged(answer, 0.95, 0.9)
    assert unchanged(answer, 0.9, 0.75)
    fell = replace(answer, drafting=replace(drafting, drafts=3))
    assert not unchanged(fell, 0.8, 0.75)


def test_goes_on_from_a_torn_journal(model: Model, tasks: list[Task], tmp_path: Path) -> None:
    journal, way = tmp_path / "work" / "answers.jsonl", exits(model)
    first = BoundedCurve(model, tasks, way, uncounted, journal)
    losses = first.losses(TEXT, 0.02)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 2 * first.n
    journal.write_text("".join(lines[:-2]) + lines[-2][:40])  # killed while writing
    again = BoundedCurve(model, tasks, way, uncounted, journal)
    assert again.full == first.full  # with their times: they were not decoded again
    assert again.losses(TEXT, 0.02) == losses
    kept = [a == b for a, b in zip(again.generations(0.02), first.generations(0.02), strict=True)]
    assert kept.count(False) == 2
    assert len(journal.read_text().splitlines()) == 2 * first.n


def test_its_journal_is_its_own(model: Model, tasks: list[Task]) -> None:
    parts = (model, exits(model), tasks, ANSWER, [0.3], 0.9)
    bolder = replace(parts[1], thresholds=(0.3, 0.3))
    digests = {
        Calibration(*parts).digest,
        BoundedCalibration(*parts).digest,
        BoundedCalibration(model, bolder, *parts[2:]).digest,
    }
    assert len(digests) == 3


def test_no_candidate_is_below_all_drafts(model: Model, tasks: list[Task]) -> None:
    drafts = exits(model, threshold=0.5)
    wanted = BoundedCalibration(model, drafts, tasks, ANSWER, [0.3], 0.9)
    assert wanted.candidates == tuple(x for x in SAFEST_FIRST if x > 0.5)
    assert len(wanted.candidates) > 20


class RandomJudge:
    """Scores that know nothing, those of each row and position always the same."""

    kind = "random"
    layers = LAYERS

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({"seen": torch.zeros(rows, 1)})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        pass

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        digests = [hash((exit, *one[:4].tolist())) for one in evidence.hidden]
        return torch.tensor([random.Random(digest).random() for digest in digests])

    def needs_logits(self) -> bool:
        return False

    def flops(self, exit: int) -> int:
        return 0

    def weight_bytes(self, exit: int) -> int:
        return 0


def random_exits() -> ExitPolicy:
    return ExitPolicy(RandomJudge(), (0.5,) * len(LAYERS), skipped_state("recompute"))


def many(count: int) -> list[Task]:
    (trivia,) = (task for task in reference_tasks(count, seed=3) if task.name == "trivia")
    return [replace(trivia, max_new_tokens=4)]


@pytest.fixture(scope="module")
def population(model: Model) -> dict[float, NDArray[np.float64]]:
    """The losses of questions at some numbers, with scores at random."""
    curve = BoundedCurve(model, many(96), random_exits(), uncounted)
    return {x: np.array(curve.losses(ANSWER, x)) for x in (0.99, 0.97, 0.94, 0.9, 0.8, 0.6)}


@pytest.mark.parametrize("risk", [0.1, 0.2])
def test_scores_at_random_keep_the_risk(
    population: dict[float, NDArray[np.float64]], risk: float
) -> None:
    """Calibrations on draws from a population of questions: in at most a share delta of them is
    any certified number's true risk, its mean over the population, above the bound."""
    draws, delta, n = 400, 0.1, 100
    candidates = tuple(population)
    true = {below: float(losses.mean()) for below, losses in population.items()}
    assert true[candidates[-1]] > risk  # the judge knows nothing: taking all drafts goes wrong
    rng, violations = np.random.default_rng(5), 0

    def drawn(below: float) -> list[float]:
        losses: list[float] = population[below][sample].tolist()
        return losses

    for _ in range(draws):
        sample = rng.integers(0, len(population[candidates[0]]), n)
        found = fixed_sequence(drawn, candidates, risk, 1 - delta, binary=True)
        passed = [test.threshold for test in found.tests[: found.passed]]
        violations += any(true[below] > risk for below in passed)
    assert violations / draws <= delta + 3 * math.sqrt(delta * (1 - delta) / draws)


@pytest.mark.slow
def test_a_certificate_holds_on_other_questions(model: Model) -> None:
    (task,) = many(120)
    calibrated, fresh = (replace(task, questions=task.questions[s::2]) for s in (0, 1))
    wanted = BoundedCalibration(model, random_exits(), [calibrated], ANSWER, [0.3, 0.01], 0.9)
    bold, hopeless = certify(wanted, uncounted)
    assert hopeless.certificate is None  # 60 answers are too few for it
    certificate = bold.certificate
    assert certificate is not None
    assert certificate.state == VERIFIED
    assert certificate.thresholds == (0.5, 0.5)
    assert certificate.threshold in SAFEST_FIRST
    assert bold.cost.full_layers > 0
    other = BoundedCurve(model, [fresh], wanted.policy, uncounted)
    measured = sum(other.losses(ANSWER, certificate.threshold)) / other.n
    assert measured <= 0.3 + 3 * math.sqrt(0.3 * 0.7 / other.n)
