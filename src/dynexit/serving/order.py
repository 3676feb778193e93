"""What the HTTP side asks of the engine, and what it hears back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dynexit.inference.generation import Drafting, GeneratedToken
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.serving.depths import Thresholds


@dataclass(frozen=True)
class Order:
    """Texts to decode. ``prompts`` has one a choice, which may be the same text several times.

    ``thresholds`` are the request's own, None for the server's; ``top_logprobs`` is how many
    alternatives to tell of each token, None for no probabilities at all. ``lossless`` asks for the
    full model's answer, drafted by exits.
    """

    prompts: tuple[tuple[int, ...], ...]
    settings: GenerationSettings
    thresholds: Thresholds | None = None
    top_logprobs: int | None = None
    lossless: bool = False


@dataclass(frozen=True)
class Logprob:
    """Natural logarithm of the probability of a token, before temperature and filters."""

    id: int
    logprob: float


@dataclass(frozen=True)
class TokenLogprobs:
    """The token that was chosen, and the most probable ones in descending order."""

    chosen: Logprob
    top: tuple[Logprob, ...]


@dataclass(frozen=True)
class Made:
    """One token of a choice. ``finish`` is empty until the last one, which has the ``drafting`` of
    a lossless answer; see ``Generation``."""

    choice: int
    token: GeneratedToken
    finish: str
    logprobs: TokenLogprobs | None
    drafting: Drafting | None = None


@dataclass(frozen=True)
class Failed:
    """The engine gave the order up; ``reason`` is for the user, None for a defect of ours."""

    reason: str | None


Event = Made | Failed


class Ticket:
    """An order under way. ``deliver`` is called in the engine's thread with what is new."""

    def __init__(self, order: Order, vocab: int, deliver: Callable[[list[Event]], None]) -> None:
        self.order = order
        self.deliver = deliver
        self.sampler = Sampler(order.settings, len(order.prompts), vocab)
        self.since = time.perf_counter()
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody waits for it any more; its rows are free before the next token is made."""
        self.cancelled = True
