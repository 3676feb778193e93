"""A decoder of many texts whose deep tokens wait for each other.

In a batch whose rows leave at different layers, one token that stays makes every layer run, so
that the others save nothing: reading a layer's weights costs about the same for one token as for
eight. Here a step is in two parts. ``begin`` takes tokens to the first exit; those that leave there
are known, and their texts may go on at once. The others are held, and ``finish`` takes those that
are held through the rest together. No token's result depends on when that is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.decoder import Decoder
from dynexit.inference.step import Front, Outcome, Step
from dynexit.models.backbone import Backbone


@dataclass(frozen=True)
class _Held:
    """A token that stayed at the first exit: its state [1, hidden] there, the judge's score, the
    readouts that it asked for, and whether the score was no number; deep ones were not judged."""

    hidden: Tensor
    score: float | None
    readouts: int
    invalid: int
    deep: bool


class DeferringDecoder(Decoder):
    """``begin`` and ``finish`` in the place of ``step``, for a decoder with exits."""

    def __init__(self, backbone: Backbone, rows: int, capacity: int, policy: ExitPolicy) -> None:
        super().__init__(backbone, rows, capacity, policy)
        self._held: dict[int, _Held] = {}

    @property
    def held(self) -> list[int]:
        """Rows whose token waits at the first exit, ascending."""
        return sorted(self._held)

    @torch.inference_mode()
    def begin(
        self, ids: Sequence[int], rows: Sequence[int], deep: Collection[int] = ()
    ) -> tuple[list[int], Step | None]:
        """Feed one token to each of these rows, ascending, of which none is held. The rows whose
        token left at the first exit, and what came of them in this order (None: none left); the
        others are held now."""
        which, policy = list(rows), self._policy()
        hidden = self.backbone.embed(torch.tensor(ids, device=self.backbone.device)[:, None])
        front = Front(which, list(range(len(which))), hidden, self._place(which), 0)
        outcome = Outcome(len(which), self.backbone.depth)
        self._pass_exits(front, range(1), deep, outcome)
        for b, at in enumerate(front.active):
            told = outcome.scores[at], outcome.idle_readouts[at], outcome.invalid_scores[at]
            row = which[at]
            self._held[row] = _Held(front.hidden[b], *told, row in deep)
        left = [at for at in range(len(which)) if outcome.exits[at] == policy.layers[0]]
        known = [which[at] for at in left]
        self._grow(known)
        if not left:
            return [], None
        return known, outcome.only(left).step([self._session.catch_up(row) for row in known])

    @torch.inference_mode()
    def finish(self, rows: Sequence[int]) -> Step:
        """Take the tokens that are held of these rows, ascending, to where they leave."""
        which, policy = list(rows), self._policy()
        held = [self._held.pop(row) for row in which]
        hidden = torch.stack([token.hidden for token in held])
        front = Front(which, list(range(len(which))), hidden, self._place(which), policy.layers[0])
        outcome = Outcome(len(which), self.backbone.depth)
        outcome.scores = [token.score for token in held]
        outcome.idle_readouts = [token.readouts for token in held]
        outcome.invalid_scores = [token.invalid for token in held]
        deep = {row for row, token in zip(which, held, strict=True) if token.deep}
        self._pass_exits(front, range(1, len(policy.layers)), deep, outcome)
        self._pass_last(front, outcome)
        self._grow(which)
        return outcome.step([self._session.catch_up(row) for row in which])

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        self._held.pop(row, None)
        super().clear(row)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._held = {new: self._held[old] for new, old in enumerate(rows) if old in self._held}
