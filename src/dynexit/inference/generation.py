"""What decoding gives back: the tokens, and for each where it left and what it cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GeneratedToken:
    """One token of an answer. ``layers_run`` counts all layers executed for it (those it ran to
    its exit; with recompute, catching up of earlier tokens is in ``catch_up``: pairs of tokens and
    layers). ``score`` is the judge's at the exit taken, None at full depth without a check."""

    id: int
    text: str
    exit_layer: int
    score: float | None
    catch_up: int = 0


@dataclass(frozen=True)
class Generation:
    """One answer. ``layers`` is the backbone's depth; ``seconds`` the time of its decoding steps,
    ``prefill_seconds`` that of the prompt; ``finish`` is ``stop``, ``length`` or ``eos``."""

    prompt_tokens: int
    tokens: tuple[GeneratedToken, ...]
    text: str
    layers: int
    seconds: float
    prefill_seconds: float
    finish: str

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def mean_exit_layer(self) -> float:
        if not self.tokens:
            return float(self.layers)
        return sum(token.exit_layer for token in self.tokens) / len(self.tokens)

    @property
    def layer_saving(self) -> float:
        """1 - mean layers run / layers, with layers run to catch up counted as run."""
        if not self.tokens:
            return 0.0
        run = sum(token.exit_layer + token.catch_up for token in self.tokens)
        return 1.0 - run / (len(self.tokens) * self.layers)

    @property
    def tokens_per_second(self) -> float:
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0
