"""One step of a decoder: what is under way, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.models.placement import Placement


@dataclass(frozen=True)
class Step:
    """What one step gave, row by row: ``logits`` [B, vocab], exit layers, the judge's score at the
    exit taken (the last score where a token went to full depth, None without a judge), layers run
    for earlier tokens that caught up, readouts of the vocabulary that judges asked for beside the
    token's own, and scores that were no numbers, for which a token stays."""

    logits: Tensor
    exit_layers: list[int]
    scores: list[float | None]
    catch_up: list[int]
    idle_readouts: list[int]
    invalid_scores: list[int]


@dataclass
class Front:
    """The tokens of a step that have not left: their numbers among the step's ``rows``, hidden
    states [B, 1, hidden] after ``layer`` and where they sit."""

    rows: list[int]
    active: list[int]
    hidden: Tensor
    place: Placement
    layer: int

    def active_rows(self) -> list[int]:
        """Rows of the decoder of the tokens that have not left."""
        return [self.rows[number] for number in self.active]


class Outcome:
    """What is known so far of every token of a step."""

    def __init__(self, tokens: int, depth: int) -> None:
        self.logits: list[Tensor | None] = [None] * tokens
        self.exits = [depth] * tokens
        self.scores: list[float | None] = [None] * tokens
        self.idle_readouts = [0] * tokens
        self.invalid_scores = [0] * tokens
        self._unread: list[tuple[Sequence[int], Tensor]] = []

    def leave(self, tokens: Sequence[int], states: Tensor, layer: int) -> None:
        """These tokens leave after ``layer`` with states [n, hidden] that are yet to be read."""
        self._unread.append((tokens, states))
        for token in tokens:
            self.exits[token] = layer

    def settle(self, readout: Callable[[Tensor], Tensor]) -> None:
        """Read all that has left at once: the vocabulary's matrix is as large as a layer."""
        if self._unread:
            states = torch.cat([states for _, states in self._unread])
            tokens = [token for some, _ in self._unread for token in some]
            self._unread = []
            for token, out in zip(tokens, torch.split(readout(states), 1), strict=True):
                self.logits[token] = out

    def read(self, tokens: Sequence[int], logits: Tensor, layer: int) -> None:
        """These tokens leave after ``layer`` with logits [n, vocab]."""
        parts = torch.split(logits, 1) if len(tokens) > 1 else (logits,)
        for token, out in zip(tokens, parts, strict=True):
            self.logits[token], self.exits[token] = out, layer

    def judge(
        self, tokens: Sequence[int], scores: Sequence[float], readouts: Sequence[int]
    ) -> None:
        """What a judge said of these, and the readouts that it asked for."""
        for token, score, count in zip(tokens, scores, readouts, strict=True):
            if math.isfinite(score):
                self.scores[token] = score
            else:  # of a state that overflowed, say: the full model decides
                self.invalid_scores[token] += 1
            self.idle_readouts[token] += count

    def own_readouts(self, tokens: Iterable[int]) -> None:
        """One of the judge's readouts of each of these is its own, as it leaves there."""
        for token in tokens:
            self.idle_readouts[token] -= 1

    def only(self, tokens: Sequence[int]) -> Outcome:
        """The outcome of these."""
        some = Outcome(0, 0)
        some.logits = [self.logits[token] for token in tokens]
        some.exits = [self.exits[token] for token in tokens]
        some.scores = [self.scores[token] for token in tokens]
        some.idle_readouts = [self.idle_readouts[token] for token in tokens]
        some.invalid_scores = [self.invalid_scores[token] for token in tokens]
        return some

    def step(self, catch_up: list[int]) -> Step:
        """All of it, once every token is read; ``catch_up`` as ``Step`` has it."""
        parts = [out for out in self.logits if out is not None]
        logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        told = self.exits, self.scores, catch_up, self.idle_readouts, self.invalid_scores
        return Step(logits, *told)
