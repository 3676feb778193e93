"""The prefill suite: how fast a prompt is read, by its length and the size of the chunks.

A row is a prompt of one text read at full depth: ``prompt`` tokens in chunks of ``chunk``,
``seconds`` (with ``low`` and ``high``) for all of it and ``tokens_per_second``. A model of up to
100 million parameters reads up to 4096 tokens, a bigger one 512 where ``--sizes`` says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS, require_memory
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.states import state_bytes
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, spread
from dynexit.evaluation.bench.wishes import sizes_upto
from dynexit.inference.decoder import Decoder

SIZES, BIG_SIZES = (128, 512, 1024, 2048, 4096), (128, 512)
CHUNKS = (64, 128, 256, 512, 1024, 2048)
USUAL_CHUNK = 512  # what generation reads with where its settings say nothing


@dataclass(frozen=True)
class Reading:
    """A prompt and its chunks."""

    prompt: int
    chunk: int


class Prefill:
    """Prompts of several lengths in the usual chunks, and the longest in chunks of every size."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject = subject
        default = SIZES if subject.small else BIG_SIZES
        limit = subject.config.max_positions
        sizes = sizes_upto(plan.sizes, default, limit, "prompt tokens")
        longest = sizes[-1]
        held = state_bytes(subject.config, longest, subject.dtype)
        needed = subject.weight_bytes + held + BESIDE_WEIGHTS
        require_memory(needed, f"a prompt of {longest}", "give shorter ones with --sizes")
        usual = [Reading(size, min(size, USUAL_CHUNK)) for size in sizes]
        chunks = [Reading(longest, chunk) for chunk in CHUNKS if chunk <= longest]
        self._keys = list(dict.fromkeys((*usual, *chunks)))

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in self._keys}

    def _run(self, key: Reading) -> float:
        decoder = Decoder(self._subject.backbone, 1, key.prompt)
        ids = [(7 * at + 1) % self._subject.config.vocab for at in range(key.prompt)]
        begin = time.perf_counter()
        decoder.prefill([ids], key.chunk)
        return time.perf_counter() - begin

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        for key in self._keys:
            if key in found.samples:
                seconds = spread(found, key)
                rate = key.prompt / seconds["seconds"]
                yield {
                    "prompt": key.prompt,
                    "chunk": key.chunk,
                    **seconds,
                    "tokens_per_second": rate,
                }
