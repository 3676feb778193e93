"""Lossless decoding and plain decoding of one prompt, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.prompts import Prompt
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Model

ENOUGH = 1.0  # seconds of plain decoding after which a time is known well
MOST_ROUNDS = 5


@dataclass(frozen=True)
class Timed:
    """A lossless answer, and its tokens per second by those of plain decoding."""

    generation: Generation
    speedup: float


def timed(
    model: Model,
    prompt: Prompt,
    settings: GenerationSettings,
    policy: ExitPolicy | None,
    lossless: Lossless,
) -> Timed:
    """Decode by turns, more often where that takes no time; the first turn is not counted where
    there are several. Without a policy both are plain."""
    plain: list[float] = []
    drafted: list[float] = []
    spent = 0.0
    while not plain or (spent < ENOUGH and len(plain) < MOST_ROUNDS):
        full = generate(model, [prompt], settings)[0]
        made = generate(model, [prompt], settings, policy, lossless)[0]
        plain.append(full.tokens_per_second)
        drafted.append(made.tokens_per_second)
        spent += full.seconds
    counted = slice(1, None) if len(plain) > 1 else slice(None)
    return Timed(made, median(drafted[counted]) / median(plain[counted]))
