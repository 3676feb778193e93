"""What a server takes on before it says no."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dynexit.errors import UserError

MAX_CONTEXT = 4096  # tokens a text may hold where the user does not say


@dataclass(frozen=True)
class Limits:
    """Bounds on work and memory; one out of range raises ``UserError`` naming its option.

    ``max_batch`` texts are decoded at once and ``max_queue`` wait; a text holds at most
    ``max_context`` tokens, prompt and answer. A request may take ``time_limit`` seconds, waiting
    and sending included, and its body ``max_body`` bytes, which must arrive within ``body_time``
    seconds. ``chunk`` prompt tokens are read at once, and ``busy_chunk`` where other texts wait for
    their next token meanwhile.
    """

    max_batch: int = 8
    max_queue: int = 64
    max_context: int = MAX_CONTEXT
    time_limit: float = 300.0
    max_body: int = 4 * 1024 * 1024
    body_time: float = 30.0
    chunk: int = 512
    busy_chunk: int = 64

    def __post_init__(self) -> None:
        least = {"max_batch": 1, "max_queue": 0, "max_context": 2, "max_body": 1}
        for name, bound in {**least, "chunk": 1, "busy_chunk": 1}.items():
            if getattr(self, name) < bound:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} {getattr(self, name)}: give at least {bound}")
        for name in ("time_limit", "body_time"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} {seconds:g}: give seconds above 0")

    def context(self, model: int | None) -> int:
        """Tokens that a text may hold, with a model whose own context is that long."""
        return self.max_context if model is None else min(self.max_context, model)
