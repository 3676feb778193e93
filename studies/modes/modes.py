"""The modes of decoding that are put side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dynexit.evaluation.certified import certified_drafting, choose_certified
from dynexit.evaluation.ways import Verified, Way, policy_of, way_of
from dynexit.exits.choice import REFERENCE_JUDGE, Wish
from dynexit.inference.speculative import Lossless
from dynexit.models.loading import Model

RISK = 0.05
FULL_DEPTH = "full depth"


@dataclass(frozen=True)
class Mode:
    """A way of decoding and what to call it."""

    name: str
    way: Way

    @property
    def settings(self) -> dict[str, object]:
        """The numbers that decide what is said: thresholds at which tokens leave, and the score
        below which drafts are verified."""
        policy = policy_of(self.way)
        drafts = self.way.settings if isinstance(self.way, Verified) else None
        return {
            "thresholds": None if policy is None else list(policy.thresholds),
            "verify_below": None if drafts is None else drafts.verify_below,
        }

    @property
    def id(self) -> str:
        """Of the mode with these numbers."""
        return json.dumps([self.name, self.settings])


def modes(model: Model) -> list[Mode]:
    """Full depth; the shipped exits at their own thresholds, and at those certified; drafts that
    are verified where the certificate asks for it, and always. The judge is the Mamba block."""
    exits, drafts = Wish(judge=REFERENCE_JUDGE), Wish(judge=REFERENCE_JUDGE, lossless=True)
    wanted: list[tuple[str, Wish, float | None]] = [
        ("exits, shipped thresholds", exits, None),
        (f"exits, risk {RISK:g}", exits, RISK),
        (f"bounded, risk {RISK:g}", drafts, RISK),
        ("lossless", drafts, None),
    ]
    found = [Mode(FULL_DEPTH, None)]
    for name, wish, risk in wanted:
        choice = choose_certified(model, wish, risk)
        how = certified_drafting(choice, Lossless() if wish.lossless else None)
        found.append(Mode(name, way_of(choice.policy, how)))
    return found
