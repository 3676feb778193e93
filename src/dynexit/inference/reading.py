"""Prompts read once, from which any number of ways of decoding go on.

Every way reads its prompt at full depth, so the layers remember the same of it whatever judge comes
after; a judge that remembers prompts too is shown the hidden states at its exits. Where several
ways answer the same questions, that spares all but one reading.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.answer import Answer
from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import Sampler
from dynexit.models.backbone import Backbone
from dynexit.models.cache import Cache
from dynexit.models.placement import Placement

Chunk = tuple[Placement, dict[int, Tensor]]


@dataclass(frozen=True)
class Reading:
    """Of each prompt's token ids, what the layers remember in ``cache``, and chunk by chunk the
    hidden states [B, T, hidden] after some layers. It took ``seconds``."""

    prompts: list[list[int]]
    cache: Cache
    chunks: list[Chunk]
    seconds: float

    @torch.inference_mode()
    def continued(self, decoder: Decoder) -> None:
        """Make a new decoder of these rows what ``prefill`` would have made it."""
        decoder.cache.copy_from(self.cache)
        decoder.lengths = [len(prompt) for prompt in self.prompts]
        for place, states in self.chunks:
            decoder.observe(place, states)


def read(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    policies: Sequence[ExitPolicy | None],
    chunk: int = 512,
) -> Reading:
    """Read these prompts for decoding with any of ``policies``, ``chunk`` columns at a time."""
    begin = time.perf_counter()
    layers = {layer for policy in policies if policy is not None for layer in policy.layers}
    ids = [list(prompt) for prompt in prompts]
    reader = _Reader(backbone, len(ids), max(1, *map(len, ids)), sorted(layers))
    reader.prefill(ids, chunk)
    return Reading(ids, reader.cache, reader.chunks, time.perf_counter() - begin)


def read_prompts(
    decoder: Decoder,
    sampler: Sampler,
    answers: Sequence[Answer],
    chunk: int,
    reading: Reading | None,
) -> float:
    """Read what comes before each answer, its last token aside, and give the seconds it took; with
    a ``reading`` of the same those of that."""
    begin, prompts = time.perf_counter(), [answer.prompt[:-1] for answer in answers]
    if reading is None:
        decoder.prefill(prompts, chunk)
    elif reading.prompts == prompts:
        reading.continued(decoder)
    else:
        raise ValueError("the reading is of other prompts")
    for row, answer in enumerate(answers):
        sampler.see(row, answer.prompt)
    return time.perf_counter() - begin + (0.0 if reading is None else reading.seconds)


class _Reader(Decoder):
    """A decoder that keeps the hidden states after ``layers`` and goes no further than prompts."""

    def __init__(self, backbone: Backbone, rows: int, capacity: int, layers: list[int]) -> None:
        super().__init__(backbone, rows, capacity)
        self._kept = layers
        self.chunks: list[Chunk] = []

    def _read(self, ids: Tensor, place: Placement) -> None:
        hidden, start, states = self.backbone.embed(ids), 0, {}
        for layer in self._kept:
            hidden = states[layer] = self.backbone.run(hidden, self.cache, start, layer, place)
            start = layer
        self.backbone.run(hidden, self.cache, start, self.backbone.depth, place)
        self.chunks.append((place, states))
