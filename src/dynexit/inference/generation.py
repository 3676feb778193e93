"""What decoding gives back: the tokens, and for each where it left and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GeneratedToken:
    """One token of an answer. It was known after ``exit_layer`` layers; ``score`` is the judge's
    at that exit, or at the last exit where none was taken, and None without a judge. ``catch_up``
    counts layers run in its step for earlier tokens (recompute), as tokens times layers;
    ``idle_readouts`` readouts of the vocabulary that judges asked for beside its own."""

    id: int
    text: str
    exit_layer: int
    score: float | None
    catch_up: int = 0
    idle_readouts: int = 0


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

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Generation:
        """The answer that ``dataclasses.asdict`` made a row of; what else is in it is left out."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["tokens"] = tuple(GeneratedToken(**token) for token in values["tokens"])
        return cls(**values)

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
        """1 - mean layers run until a token was known / layers; see ``catch_up`` for the rest."""
        return 1.0 - self.mean_exit_layer / self.layers

    @property
    def tokens_per_second(self) -> float:
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0
