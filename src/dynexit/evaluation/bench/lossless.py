"""The lossless suite: what drafts by an exit give, by the share of them that is right.

Half of the rows have weights whose layers after the exit are the identity (``later_layers``
*identity*), so that every draft is right; then drafts are spoilt at random so that a share
``right`` of them is not. The others have the model's *own* later layers: with random weights nearly
no draft is right. ``drafting`` is *none* for plain decoding, *adaptive* (how many follows from what
was accepted so far in this text) or *fixed* (always the most).

``seconds`` of a token at batch 1 (with ``low`` and ``high`` over rounds), ``tokens_per_second``;
``speedup`` over plain decoding with the same weights; ``acceptance_rate`` (accepted share of
drafts), ``acceptance_length`` (accepted drafts a verification), ``drafts_per_verification``;
``draft_share`` and ``verify_share`` of the time (the rest are steps at full depth); ``trail_bytes``
held so that the text can go back; ``same_tokens``, whether all are those of plain decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import median

from dynexit.errors import UserError
from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS, require_memory
from dynexit.evaluation.bench.decoding import PROMPT, leave_at
from dynexit.evaluation.bench.drafting import (
    Decoded,
    Misleading,
    decode_plainly,
    decode_with_drafts,
)
from dynexit.evaluation.bench.identity import identity_after, identity_bytes
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, ratio, spread
from dynexit.evaluation.bench.wishes import exit_layers
from dynexit.inference.speculative.settings import Lossless
from dynexit.models.backbone import Backbone

TEXT = tuple(range(PROMPT))
SHARES = (0.9, 0.8, 0.5)  # of drafts that are right, beside all
HOW = {"adaptive": Lossless(), "fixed": Lossless(adapt=False)}


@dataclass(frozen=True)
class Drafting:
    """Drafts after ``layer`` of which a share is ``right`` (None: as the model's own layers have
    it), or plain decoding with the same weights."""

    layer: int
    right: float | None
    drafting: str = "none"

    @property
    def plain(self) -> Drafting:
        """What it is compared with."""
        return Drafting(self.layer, None if self.right is None else 1.0)


class LosslessDecoding:
    """Drafts that are verified against plain decoding."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._tokens = subject, plan.tokens
        depth = subject.config.depth
        layers = exit_layers(plan.layers or (depth // 2,), depth, subject.small)
        if layers[-1] == depth:
            raise UserError(f"--layers: nothing is drafted by layer {depth}, the last; give others")
        self._keys = [key for layer in layers for key in _keys(layer)]
        copies = sum(identity_bytes(subject.config, layer) for layer in layers)
        needed = subject.weight_bytes + copies + BESIDE_WEIGHTS
        require_memory(needed, f"drafting after layers {layers}", "give one layer with --layers")
        self._identity = cache(lambda layer: identity_after(subject.backbone, layer))
        self._told: dict[Drafting, list[Decoded]] = {key: [] for key in self._keys}

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in self._keys}

    def _run(self, key: Drafting) -> float:
        told = self._told[key]
        told.append(self._decode(key, seed=len(told)))
        return told[-1].seconds / self._tokens

    def _decode(self, key: Drafting, seed: int) -> Decoded:
        backbone = self._backbone(key)
        if key.drafting == "none":
            return decode_plainly(backbone, TEXT, self._tokens)
        policy = leave_at(self._subject, key.layer, "recompute")
        assert policy is not None
        if key.right is not None and key.right < 1.0:
            policy = replace(policy, translators=Misleading(key.right, seed))
        return decode_with_drafts(backbone, policy, HOW[key.drafting], TEXT, self._tokens)

    def _backbone(self, key: Drafting) -> Backbone:
        return self._subject.backbone if key.right is None else self._identity(key.layer)

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        for key in self._keys:
            if key not in found.samples:
                continue
            seconds = spread(found, key)
            yield {
                "exit_layer": key.layer,
                "later_layers": "own" if key.right is None else "identity",
                "right": key.right,
                "drafting": key.drafting,
                **seconds,
                "tokens_per_second": 1 / seconds["seconds"],
                "speedup": ratio(found.median(key.plain), seconds["seconds"]),
                **(_NOTHING if key.drafting == "none" else _drafts(self._told[key])),
                "same_tokens": self._same(key),
            }

    def _same(self, key: Drafting) -> bool | None:
        """Whether all tokens of all rounds are those of plain decoding, None if that has not
        run."""
        plain = self._told[key.plain]
        return all(one.ids == plain[0].ids for one in self._told[key]) if plain else None


def _keys(layer: int) -> Iterator[Drafting]:
    yield from (Drafting(layer, 1.0, drafting) for drafting in ("none", *HOW))
    yield from (Drafting(layer, right, "adaptive") for right in SHARES)
    yield from (Drafting(layer, None, drafting) for drafting in ("none", "adaptive"))


def _drafts(told: Sequence[Decoded]) -> Row:
    """Of all rounds together, as the drafts that are spoilt are others in each."""
    drafts, accepted = (sum(getattr(one, name) for one in told) for name in ("drafts", "accepted"))
    cycles = sum(one.cycles for one in told)
    return {
        "acceptance_rate": ratio(accepted, drafts),
        "acceptance_length": ratio(accepted, cycles),
        "drafts_per_verification": ratio(drafts, cycles),
        "draft_share": median(one.draft_seconds / one.seconds for one in told),
        "verify_share": median(one.verify_seconds / one.seconds for one in told),
        "trail_bytes": told[0].trail_bytes,
    }


_NOTHING: Row = dict.fromkeys(
    (
        *("acceptance_rate", "acceptance_length", "drafts_per_verification"),
        *("draft_share", "verify_share", "trail_bytes"),
    )
)
