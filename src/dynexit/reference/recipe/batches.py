"""Training rows: documents packed one after another, with the answers marked."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from dynexit.reference.corpus.item import Item, segments
from dynexit.reference.corpus.mixture import training_items
from dynexit.reference.corpus.stories import training_story

BOS, EOS = 1, 2


@dataclass(frozen=True)
class Batch:
    """Token ids [rows, width] and the ids that follow; ``target`` marks answers (and their end)
    among those that follow, ``real`` all that are not padding."""

    ids: Tensor
    following: Tensor
    target: Tensor
    real: Tensor

    @property
    def row_index(self) -> Tensor:
        """Number of the row [rows, 1]."""
        return torch.arange(len(self.ids), device=self.ids.device)[:, None]

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class Encoder:
    """Documents to ids with a mark on each target token."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))

    @property
    def vocabulary(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, item: Item) -> tuple[list[int], list[bool]]:
        ids, marks = [BOS], [False]
        for text, is_target in segments(item):
            part = self._tokenizer.encode(text, add_special_tokens=False).ids
            ids += part
            marks += [is_target] * len(part)
        return [*ids, EOS], [*marks, True]


def training_batch(
    encoder: Encoder,
    seed: int,
    rows: int,
    width: int,
    mix: str,
    drills: int = 0,
) -> Batch:
    """The batch of a seed: the same whenever asked for, so a resumed run sees the same data.

    ``mix`` names the mixture of items; ``drills`` of the rows are repetitions.
    """
    source = chain(
        islice(repetitions(encoder, seed, width + 1), drills),
        _rows(encoder, training_items(seed, mix), width + 1),
    )
    return pack(source, rows, width)


def repetitions(encoder: Encoder, seed: int, width: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Rows of a story's words in random order, again and again with a period of 4 to 32, to be
    foretold from the second time on. Nothing but looking back helps there, and to find things in a
    story is to look back."""
    rng = random.Random(f"repetitions-{seed}")
    while True:
        words = sorted(set(encoder.encode(training_story(rng))[0]) - {BOS, EOS})
        unit = rng.sample(words, min(rng.randint(4, 32), len(words)))
        yield (unit * width)[:width], [i >= len(unit) for i in range(width)]


def pack(source: Iterator[tuple[list[int], list[bool]]], rows: int, width: int) -> Batch:
    """The next ``rows`` rows, padded to ``width``."""
    ids = torch.zeros(rows, width + 1, dtype=torch.long)
    marks = torch.zeros(rows, width + 1, dtype=torch.bool)
    real = torch.zeros(rows, width + 1, dtype=torch.bool)
    for row in range(rows):
        tokens, targets = next(source)
        ids[row, : len(tokens)] = torch.tensor(tokens)
        marks[row, : len(tokens)] = torch.tensor(targets)
        real[row, : len(tokens)] = True
    return Batch(ids[:, :-1], ids[:, 1:], marks[:, 1:], real[:, 1:])


def _rows(
    encoder: Encoder, items: Iterable[Item], width: int
) -> Iterator[tuple[list[int], list[bool]]]:
    """Whole documents filled into rows; one that does not fit begins the next row."""
    ids: list[int] = []
    marks: list[bool] = []
    for item in items:
        more, more_marks = encoder.encode(item)
        if len(ids) + len(more) > width:
            yield ids, marks
            ids, marks = [], []
        ids += more[:width]
        marks += more_marks[:width]


def single_rows(encoder: Encoder, items: list[Item], width: int) -> Batch:
    """One document a row, for measuring."""
    return pack(iter([encoder.encode(item) for item in items]), len(items), width)
