"""Timed greedy decoding of one text: plainly, and with drafts that are verified."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dynexit.evaluation.bench.decoding import WARM_UP
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.translator import Translators
from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import Lossless
from dynexit.inference.speculative.speculation import Feed, Speculation
from dynexit.models.backbone import Backbone


@dataclass(frozen=True)
class Decoded:
    """Tokens and the ``seconds`` they took. Of these, ``draft_seconds`` went into steps that made a
    draft and ``verify_seconds`` into those that verified some; the rest are steps at full depth.
    ``cycles`` verifications took ``drafts``, of which ``accepted`` stand. ``trail_bytes`` are held
    so that the text could go back."""

    ids: list[int]
    seconds: float
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    drafts: int = 0
    accepted: int = 0
    cycles: int = 0
    trail_bytes: int = 0


class Misleading(Translators):
    """Before the readout of an exit, turns a hidden state into its opposite with probability
    ``1 - right``: what would be the best draft becomes the worst. It costs nothing to speak of."""

    def __init__(self, right: float, seed: int) -> None:
        super().__init__((), 0)
        self._right, self._random = right, random.Random(seed)

    def apply(self, exit: int, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return hidden if self._random.random() < self._right else -hidden

    def weight_bytes(self) -> int:
        return 0


def decode_plainly(
    backbone: Backbone, text: Sequence[int], tokens: int, warm_up: int = WARM_UP
) -> Decoded:
    """``tokens`` tokens at full depth, after a text and ``warm_up`` tokens that are not timed."""
    decoder = Decoder(backbone, 1, len(text) + warm_up + tokens)
    sampler = Sampler(GenerationSettings(), 1, backbone.config.vocab)
    decoder.prefill([text[:-1]])
    last = text[-1]
    for _ in range(warm_up):
        (last,) = sampler.sample(decoder.step([last]).logits)
    ids = [last]
    begin = time.perf_counter()
    for _ in range(tokens):
        ids += sampler.sample(decoder.step([ids[-1]]).logits)
    return Decoded(ids[1:], time.perf_counter() - begin)


def decode_with_drafts(
    backbone: Backbone,
    policy: ExitPolicy,
    how: Lossless,
    text: Sequence[int],
    tokens: int,
    warm_up: int = WARM_UP,
    drafting: DraftPolicy | None = None,
    ready: Callable[[Speculation], None] = lambda speculation: None,
) -> Decoded:
    """The same with drafts by ``policy``, as many as ``drafting`` has learned to make (None: it has
    learned nothing before). ``ready`` is told before the clock starts."""
    sampler = Sampler(GenerationSettings(), 1, backbone.config.vocab)
    capacity = len(text) + warm_up + tokens
    drafting = drafting or draft_policy(backbone.config, policy, how)
    speculation = Speculation(backbone, 1, capacity, policy, how, drafting)
    speculation.decoder.prefill([text[:-1]])
    last = text[-1]
    for _ in range(warm_up):  # a token with no room after it is not drafted
        (made,) = speculation.step({0: Feed(last, 1, _go_on, sampler)})[0]
        last = made.token
    if warm_up:
        speculation.decoder.begin(0, backbone.depth)
        speculation.decoder.commit(0)
    ready(speculation)
    return _timed(speculation, sampler, last, tokens)


def _timed(speculation: Speculation, sampler: Sampler, last: int, tokens: int) -> Decoded:
    tally, ids = speculation.tallies[0], [last]
    total = drafting = verifying = 0.0
    while (room := tokens + 1 - len(ids)) > 0:
        verified, begin = tally.cycles, time.perf_counter()
        made = speculation.step({0: Feed(ids[-1], room, _go_on, sampler)})[0]
        seconds = time.perf_counter() - begin
        total += seconds
        drafting += 0.0 if made else seconds
        verifying += seconds if tally.cycles > verified else 0.0
        ids += [one.token for one in made]
    return Decoded(
        ids[1:],
        total,
        drafting,
        verifying,
        tally.drafts,
        tally.accepted,
        tally.cycles,
        speculation.decoder.trail_bytes,
    )


def _go_on(drafts: Sequence[int]) -> bool:
    """No token ends the text."""
    return False
