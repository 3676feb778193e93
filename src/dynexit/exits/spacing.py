"""Deciding at every n-th exit only.

On a GPU each decision is a moment when the host waits for the device; between exits that are not
checked the layers run on in one piece.
"""

from __future__ import annotations

from dataclasses import replace

from dynexit.errors import UserError
from dynexit.exits.judge import Judge
from dynexit.exits.judges import TrainedJudge, build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.translator import Translators
from dynexit.models import Backbone


def decide_every(policy: ExitPolicy, n: int, backbone: Backbone) -> ExitPolicy:
    """The policy at its first exit and every n-th one after it, with the same judge, thresholds and
    translators there. Its recurrent judge sees at these exits what it saw before; its patience,
    saturation and depth judge compare exits that are further apart."""
    if n < 1:
        raise UserError(f"decide every {n} exits: give a whole number of at least 1")
    if n == 1:
        return policy
    return replace(
        policy,
        judge=_judge(policy.judge, n, backbone),
        thresholds=policy.thresholds[::n],
        translators=_translators(policy.translators, n),
    )


def _judge(judge: Judge, n: int, backbone: Backbone) -> Judge:
    options = getattr(judge, "options", {})
    layers, hidden = judge.layers[::n], backbone.config.hidden
    fewer = build_judge(judge.kind, layers, hidden, backbone.device, options)
    if isinstance(judge, TrainedJudge) and isinstance(fewer, TrainedJudge):
        fewer.take(judge, range(0, len(judge.layers), n))
        fewer.eval().requires_grad_(False)
    return fewer


def _translators(translators: Translators | None, n: int) -> Translators | None:
    if translators is None:
        return None
    fewer = Translators(translators.layers[::n], translators.hidden)
    for own, trained in zip(fewer.maps, list(translators.maps)[::n], strict=True):
        own.load_state_dict(trained.state_dict())
    return fewer.to(translators.maps[0].weight.device).eval().requires_grad_(False)  # type: ignore[arg-type]
