"""Ways of decoding that are put side by side: full depth, exits, exits that draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.generate import generate
from dynexit.inference.generation import Drafting, Generation
from dynexit.inference.prompts import Prompt
from dynexit.inference.reading import Reading
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.settings import Lossless
from dynexit.models.loading import Model


@dataclass(frozen=True)
class Verified:
    """Exits that draft, and which of their drafts are verified."""

    policy: ExitPolicy
    settings: Lossless


Way = ExitPolicy | Verified | None  # None is full depth
Decode = Callable[[Sequence[Prompt], GenerationSettings, Reading | None], list[Generation]]


def way_of(policy: ExitPolicy | None, drafts: Lossless | None) -> Way:
    """The way of a policy, whose exits only draft with ``drafts``."""
    return policy if policy is None or drafts is None else Verified(policy, drafts)


def policy_of(way: Way) -> ExitPolicy | None:
    """The exits of a way."""
    return way.policy if isinstance(way, Verified) else way


def decoding(model: Model, way: Way) -> Decode:
    """Answers the prompts of a call in one batch, from a reading of them if there is one. What
    drafting has learned goes on from call to call, as in a server."""
    if not isinstance(way, Verified):
        return lambda prompts, settings, reading: generate(
            model, prompts, settings, way, reading=reading
        )
    policy, drafts = way.policy, way.settings
    learned = draft_policy(model.backbone.config, policy, drafts)
    return lambda prompts, settings, reading: generate(
        model, prompts, settings, policy, drafts, learned, reading
    )


def all_drafting(answers: Iterable[Drafting | None]) -> Drafting | None:
    """What drafting took in all of these; None where there is none."""
    parts = [drafting for drafting in answers if drafting is not None]
    if not parts:
        return None
    return Drafting(
        drafts=sum(part.drafts for part in parts),
        accepted=sum(part.accepted for part in parts),
        cycles=sum(part.cycles for part in parts),
        fed=sum(part.fed for part in parts),
        passes=tuple(map(sum, zip(*(part.passes for part in parts), strict=True))),
        draft_seconds=sum(part.draft_seconds for part in parts),
    )


def describe_drafting(drafting: Drafting | None) -> dict[str, Any]:
    """Drafts as JSON, all 0 where there were none."""
    return {
        "draft_tokens": drafting.drafts if drafting else 0,
        "accepted_tokens": drafting.accepted if drafting else 0,
        "acceptance_rate": drafting.acceptance_rate if drafting else 0.0,
        "mean_acceptance_length": drafting.mean_acceptance_length if drafting else 0.0,
    }
