"""How deep requests go: the server's thresholds, those of a request, and the certified ladder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynexit.calibration import load_certificates
from dynexit.calibration.certificate import FILE
from dynexit.evaluation.certify import judge_digest
from dynexit.exits.fingerprint import fingerprint
from dynexit.exits.policy import ExitPolicy
from dynexit.models.backbone import Backbone
from dynexit.serving.problem import invalid

Thresholds = tuple[float, ...]


@dataclass(frozen=True)
class Rung:
    """Thresholds, one an exit, certified for a risk."""

    risk: float
    thresholds: Thresholds


@dataclass(frozen=True)
class Depths:
    """What a server may do about depth. Without a policy every token runs through all layers.

    ``ladder`` holds the certified rungs in ascending risk.
    """

    policy: ExitPolicy | None = None
    ladder: tuple[Rung, ...] = ()

    @property
    def levels(self) -> tuple[Thresholds, ...]:
        """Thresholds to shed load with: the server's own, then rungs that leave earlier."""
        if self.policy is None:
            return ()
        found = [self.policy.thresholds]
        for rung in self.ladder:
            pairs = list(zip(rung.thresholds, found[-1], strict=True))
            if all(new <= old for new, old in pairs) and any(new < old for new, old in pairs):
                found.append(rung.thresholds)
        return tuple(found)

    def of_request(self, threshold: float | None, risk: float | None) -> Thresholds | None:
        """Thresholds that a request asks for, None where it leaves them to the server.

        Raises ``Problem`` (400) for what this server cannot do.
        """
        if threshold is None and risk is None:
            return None
        name = "threshold" if threshold is not None else "risk"
        if self.policy is None and threshold is not None and threshold > 1:
            return None
        if self.policy is None:
            raise invalid(f"this server has no exits, all tokens go to full depth; no {name}", name)
        if threshold is not None and risk is not None:
            raise invalid("risk chooses the threshold; leave one of them out", "risk")
        if threshold is not None:
            return (threshold,) * len(self.policy.layers)
        for rung in self.ladder:
            if rung.risk == risk:
                return rung.thresholds
        known = ", ".join(f"{rung.risk:g}" for rung in self.ladder) or "none"
        raise invalid(f"risk {risk:g} is not certified here; certified are: {known}", "risk")


def load_ladder(
    directory: Path, backbone: Backbone, policy: ExitPolicy, judge: str
) -> tuple[Rung, ...]:
    """The rungs that ``calibration.json`` of an exit set holds for this judge and state policy.

    None without that file, or where it certifies other weights. Of several certificates for one
    risk the strictest counts. Raises ``UserError`` for a broken file.
    """
    if not (directory / FILE).exists():
        return ()
    digest = judge_digest(policy)
    rungs: dict[float, Rung] = {}
    for certificate in load_certificates(directory, fingerprint(backbone)):
        if (certificate.judge, certificate.state) != (judge, policy.state.name):
            continue
        if certificate.judge_digest != digest:
            continue
        rung, known = Rung(certificate.risk, certificate.thresholds), rungs.get(certificate.risk)
        if known is None or rung.thresholds > known.thresholds:
            rungs[rung.risk] = rung
    return tuple(rungs[risk] for risk in sorted(rungs))
