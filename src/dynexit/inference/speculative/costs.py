"""What a draft costs as a share of a full token, by the bytes that are read for it."""

from __future__ import annotations

from dynexit.exits.judges import TRAINED_JUDGES
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import judge_bytes
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import LONGEST, Lossless
from dynexit.models.config import BackboneConfig
from dynexit.models.cost import layer_cost, readout_cost

VERIFYING = 0.05
"""A token that is verified along with another: arithmetic on weights that are read anyway."""


UNKNOWN = 2 / 3
"""Share of accepted drafts to expect where no judge was trained to tell."""


def draft_policy(config: BackboneConfig, policy: ExitPolicy, settings: Lossless) -> DraftPolicy:
    """A policy that has learned nothing yet. At most seven drafts where every one is verified, so
    that they and the token that takes them along are one call of the kernels."""
    layers = [layer_cost(config, index, 0).bytes for index in range(config.depth)]
    readout, check = readout_cost(config).bytes, judge_bytes(policy).bytes
    reads = policy.judge.needs_logits()
    costs: dict[int, float] = {}
    for number, layer in enumerate(policy.layers, start=1):
        readouts = number if reads else 1
        cost = sum(layers[:layer]) + readouts * readout + number * check
        costs[layer] = cost / (sum(layers) + readout)
    return DraftPolicy(costs, VERIFYING, min(settings.max_draft, LONGEST), _expected(policy))


def _expected(policy: ExitPolicy) -> dict[int, float]:
    """A trained judge's scores are probabilities, and those of tokens that leave lie between the
    threshold and 1."""
    trained = policy.judge.kind in TRAINED_JUDGES
    pairs = zip(policy.layers, policy.thresholds, strict=True)
    return {layer: (1 + min(least, 1.0)) / 2 if trained else UNKNOWN for layer, least in pairs}
