"""An answer of the full model, replayed with exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dynexit.exits.recompute import Recompute
from dynexit.inference.generation import GeneratedToken, Generation


@dataclass(frozen=True)
class Replayed:
    """Where each token of the full model's answer leaves, with which score (the last one where it
    goes to full depth), whether it ``agrees`` with the full model's, what its judge read out of the
    vocabulary beside its own readout, and how many of its scores were no numbers.

    To the first that does not agree, and at it, this is decoding with the state ``recompute``.
    Beyond, the full model's tokens are fed on all the same (teacher forcing).
    """

    full: Generation
    exit_layers: tuple[int, ...]
    scores: tuple[float | None, ...]
    agrees: tuple[bool, ...]
    idle_readouts: tuple[int, ...]
    invalid_scores: tuple[int, ...]

    @property
    def divergence(self) -> int | None:
        """Position of the first token that is not the full model's, None if there is none."""
        return None if self.same else self.agrees.index(False)

    @property
    def same(self) -> bool:
        """Whether decoding gives the full model's answer."""
        return all(self.agrees)

    @property
    def generation(self) -> Generation | None:
        """The answer that decoding gives, but for its times, which are 0; None if it diverges."""
        if not self.same:
            return None
        caught = catch_up(self.exit_layers, self.full.layers, Recompute().limit)
        found = (self.exit_layers, self.scores, caught, self.idle_readouts, self.invalid_scores)
        tokens = tuple(
            GeneratedToken(token.id, token.text, *told)
            for token, *told in zip(self.full.tokens, *found, strict=True)
        )
        return replace(self.full, tokens=tokens, seconds=0.0, prefill_seconds=0.0)


def catch_up(exit_layers: Sequence[int], depth: int, limit: int) -> list[int]:
    """For each token of an answer, the layers that tokens before it run in its step, as tokens
    times layers, where at most ``limit`` wait (see ``exits.recompute``)."""
    found, waiting = [], list[int]()  # the layers that waiting tokens have reached
    for layer in exit_layers:
        ran = sum(layer - reached for reached in waiting if reached < layer)
        waiting = [max(reached, layer) for reached in waiting] if layer < depth else []
        if layer < depth:
            waiting.append(layer)
        if len(waiting) > limit:  # too many: all go to the end, this one too
            ran += sum(depth - reached for reached in waiting)
            waiting = []
        found.append(ran)
    return found
