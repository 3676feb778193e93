"""The context suite: what a token costs after a long text.

A row is a number of tokens before the first that is timed, at full depth and batch 1: ``context``,
``seconds`` (with ``low`` and ``high``), ``tokens_per_second``, ``state_bytes`` held for that many
tokens and ``state_bytes_per_token`` moved for one, ``slowdown`` against the shortest context. The
states are filled with random numbers and not by a prefill, which changes no time. Contexts of
128 to 32768 tokens, as far as the model and memory have room; a state-space model must stay flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from dynexit.errors import UserError
from dynexit.evaluation.bench.bytes_moved import BytesMoved
from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS, fits, require_memory
from dynexit.evaluation.bench.decoding import WARM_UP, timed_steps
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.states import fill, state_bytes
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, ratio, spread
from dynexit.evaluation.bench.wishes import sizes_upto
from dynexit.inference.decoder import Decoder

SIZES = (128, 512, 2048, 8192, 32768)


@dataclass(frozen=True)
class After:
    """A token after ``tokens`` others."""

    tokens: int


class Context:
    """Full depth by length of the text before."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._steps = subject, WARM_UP + plan.tokens
        limit = subject.config.max_positions
        room = None if limit is None else limit - self._steps
        if room is not None and room < 1:
            raise UserError(
                f"--tokens {plan.tokens} leave no room for a context in the model's {limit} tokens"
            )
        sizes = sizes_upto(plan.sizes, SIZES, room, "tokens of context")
        if plan.sizes is None:
            sizes = tuple(size for size in sizes if fits(self._needed(size)))
        else:
            cure = "give shorter ones with --sizes"
            require_memory(self._needed(sizes[-1]), f"a context of {sizes[-1]}", cure)
        self._keys = [After(size) for size in sizes]

    def _needed(self, size: int) -> int:
        held = self._held(size + self._steps)
        return self._subject.weight_bytes + held + BESIDE_WEIGHTS

    def _held(self, tokens: int) -> int:
        return state_bytes(self._subject.config, tokens, self._subject.dtype)

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in self._keys}

    def _run(self, key: After) -> float:
        decoder = Decoder(self._subject.backbone, 1, key.tokens + self._steps)
        with torch.inference_mode():
            fill(decoder.cache)
        decoder.lengths = [key.tokens]
        return timed_steps(decoder, self._steps - WARM_UP)

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        config, dtype = self._subject.config, self._subject.dtype
        known = [key for key in self._keys if key in found.samples]
        for key in known:
            seconds = spread(found, key)
            yield {
                "context": key.tokens,
                **seconds,
                "tokens_per_second": 1 / seconds["seconds"],
                "state_bytes": self._held(key.tokens),
                "state_bytes_per_token": BytesMoved(config, dtype, key.tokens).state(),
                "slowdown": ratio(seconds["seconds"], found.median(known[0])),
            }
