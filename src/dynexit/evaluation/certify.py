"""From a model and calibration questions to certified thresholds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynexit.calibration import Certificate, Outcome, fixed_sequence, save_certificates
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.independent import data_digest
from dynexit.evaluation.losses import Loss
from dynexit.evaluation.risk import Curve, RiskCurve
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.fingerprint import fingerprint
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import DecodingCost, decoding_cost
from dynexit.models.loading import Model

# Scores crowd below 1, so steps are even in the logarithm of 1 - threshold, from 0.0001 to 0.8.
SAFEST_FIRST = tuple(round(1.0 - 0.0001 * 8000 ** (step / 27), 5) for step in range(28))


@dataclass(frozen=True)
class Calibration:
    """What shall be certified: for each bound of ``risks``, with ``confidence``, that the expected
    ``loss`` on questions like those of ``tasks`` is no larger.

    ``policy`` says judge, layers and state; its own thresholds don't count.
    """

    model: Model
    policy: ExitPolicy
    tasks: Sequence[Task]
    loss: Loss
    risks: Sequence[float]
    confidence: float

    @property
    def state(self) -> str:
        """What becomes of skipped layers, as certificates name it."""
        return self.policy.state.name

    @property
    def candidates(self) -> tuple[float, ...]:
        """The thresholds to test, the safest first."""
        return SAFEST_FIRST

    def curve(self, counting: Counting, journal: Path | None) -> Curve:
        """The losses at any of them."""
        return RiskCurve(self.model, self.tasks, self.policy, counting, journal)

    def exits(self) -> list[Any]:
        """All of the exits that decides answers, but the threshold."""
        policy = self.policy
        return [policy.judge.kind, judge_digest(policy), policy.layers, self.state]

    @cached_property
    def data(self) -> str:
        """Digest of the questions."""
        return data_digest(self.tasks)

    @cached_property
    def digest(self) -> str:
        """Digest of all that decides the answers, but not of how they are compared."""
        backbone = self.model.backbone
        dtype = str(backbone.embedding.weight.dtype)
        parts = [asdict(fingerprint(backbone)), dtype, self.exits(), self.data]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Rung:
    """What came of one bound on the risk: the tests, what decoding costs at the threshold of the
    best one, and the certificate, None where no threshold is valid."""

    outcome: Outcome
    cost: DecodingCost
    certificate: Certificate | None


def certify(wanted: Calibration, counting: Counting, work: Path | None = None) -> list[Rung]:
    """For each bound, the boldest threshold that is valid.

    The candidates of ``wanted`` are tested in order, each bound by itself: every certificate
    holds with the confidence asked for, not all of them together. Answers are kept in the directory
    ``work`` until all is done, so that the same call goes on after an interruption.
    """
    journal = None if work is None else work / f"{wanted.digest}.jsonl"
    curve, candidates = wanted.curve(counting, journal), wanted.candidates
    with counting(f"{wanted.model.name}: thresholds", len(candidates)) as tick:
        known: dict[float, list[float]] = {}

        def losses_at(threshold: float) -> list[float]:
            if threshold not in known:
                known[threshold] = curve.losses(wanted.loss, threshold)
                tick()
            return known[threshold]

        outcomes = [
            fixed_sequence(losses_at, candidates, risk, wanted.confidence, wanted.loss.binary)
            for risk in wanted.risks
        ]
    if work is not None and journal is not None:
        journal.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or there are journals of other calibrations
            work.rmdir()
    return [_rung(wanted, curve, outcome) for outcome in outcomes]


def save(wanted: Calibration, rungs: Sequence[Rung], directory: Path) -> Path:
    """Write the certificates; a bound that failed loses the certificate it had there."""
    kind, state = wanted.policy.judge.kind, wanted.state
    keys = [(wanted.loss.name, risk, wanted.confidence, kind, state) for risk in wanted.risks]
    valid = [rung.certificate for rung in rungs if rung.certificate is not None]
    return save_certificates(directory, valid, fingerprint(wanted.model.backbone), keys)


def judge_digest(policy: ExitPolicy) -> str:
    """A digest of the weights of a policy's judge and translators; empty where there are none."""
    modules = [m for m in (policy.judge, policy.translators) if isinstance(m, nn.Module)]
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().to(torch.float32).cpu().numpy().tobytes())
    return digest.hexdigest()[:32] if modules else ""


def _rung(wanted: Calibration, curve: Curve, outcome: Outcome) -> Rung:
    best = outcome.best
    policy, backbone = curve.at(best.threshold), wanted.model.backbone
    cost = decoding_cost(curve.generations(best.threshold), backbone.config, policy)
    if not outcome.valid:
        return Rung(outcome, cost, None)
    certificate = Certificate(
        risk_kind=wanted.loss.name,
        risk=outcome.risk,
        confidence=outcome.confidence,
        threshold=best.threshold,
        thresholds=policy.thresholds,
        empirical_risk=best.empirical,
        p_value=best.p_value,
        n=outcome.n,
        data=wanted.data,
        judge=policy.judge.kind,
        judge_digest=judge_digest(policy),
        layers=policy.layers,
        state=wanted.state,
        backbone=fingerprint(backbone),
        dynexit=version("dynexit"),
        date=datetime.now(UTC).date().isoformat(),
    )
    return Rung(outcome, cost, certificate)
