"""The texts that a backbone is fine-tuned on, as rows of token ids."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE
from dynexit.models import Model
from dynexit.reference.corpus.item import prompt as prompt_of
from dynexit.reference.corpus.mixture import training_items
from dynexit.training.corpus import Sample, read_samples, tokenize
from dynexit.training.finetune.recipe import FinetuneRecipe
from dynexit.workers import ALONE, Workers


@dataclass(frozen=True)
class Rows:
    """Texts padded on the right: ``ids`` [B, T], the token that follows each, and where that is one
    to be learned, both [B, T]."""

    ids: Tensor
    following: Tensor
    learned: Tensor

    def to(self, device: torch.device) -> Rows:
        return Rows(*(t.to(device) for t in (self.ids, self.following, self.learned)))


@dataclass(frozen=True)
class Texts:
    """Those to learn from and those to measure on."""

    model: Model
    training: Sequence[Sample]
    held_out: Sequence[Sample]
    length: int
    seed: int

    def batch(self, step: int, size: int, workers: Workers = ALONE) -> Rows:
        """The rows of a step; of several workers each has its share. All texts come before any
        comes again."""
        first = step * size
        numbers = workers.share([self._number(first + at) for at in range(size)])
        return self.rows([self.training[number] for number in numbers])

    def _number(self, at: int) -> int:
        epoch, place = divmod(at, len(self.training))
        return _order(len(self.training), f"{self.seed}-{epoch}")[place]

    def rows(self, samples: Sequence[Sample]) -> Rows:
        """Of a text all tokens are learned, of a prompt with an answer those of the answer and the
        end after it."""
        texts = [self._encoded(sample) for sample in samples]
        width = max(len(ids) for ids, _ in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        learned = torch.zeros(len(texts), width, dtype=torch.bool)
        for row, (tokens, begin) in enumerate(texts):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            learned[row, begin - 1 : len(tokens) - 1] = True
        return Rows(ids, ids.roll(-1, dims=1), learned)

    def _encoded(self, sample: Sample) -> tuple[list[int], int]:
        """Token ids, and the number of the first that is learned."""
        found = tokenize(sample, self.model.tokenizer, self.length)
        end = list(self.model.eos_ids[:1])
        if found.answer is None:
            return [*found.prompt, *end][: self.length], 1
        answer = [*found.answer, *end]
        prompt = found.prompt[-max(1, self.length - len(answer)) :]
        return [*prompt, *answer][: self.length], len(prompt)


def load_texts(model: Model, data: Path | None, recipe: FinetuneRecipe) -> Texts:
    """Of a file, or for a reference model of what it was trained on."""
    samples: Sequence[Sample]
    if data is not None:
        samples = read_samples(data).drawn(recipe.texts, recipe.seed)
    elif model.name.startswith(REFERENCE):
        samples = list(islice(answered_samples(recipe.seed), min(recipe.texts, 20_000)))
    else:
        raise UserError(f"{model.name} has no texts of its own; give a file with --data")
    # texts of one group (turns of a conversation) stay on one side
    held = next((at for at in range(recipe.held_out, len(samples)) if _parts(samples, at)), None)
    if held is None or len(samples) - held < recipe.batch:
        raise UserError(
            f"{len(samples)} texts are too few for {recipe.held_out} held-out ones and a batch of "
            f"{recipe.batch}; give more texts, or smaller --held-out and --batch"
        )
    return Texts(model, samples[held:], samples[:held], recipe.length, recipe.seed)


def _parts(samples: Sequence[Sample], at: int) -> bool:
    return samples[at - 1].group != samples[at].group


def answered_samples(seed: int) -> Iterator[Sample]:
    """Endless questions of the reference models' training texts with their answers."""
    for group, item in enumerate(training_items(seed)):
        for number, turn in enumerate(item.turns):
            yield Sample(prompt_of(item, number), f" {turn.answer}\n", group)


@lru_cache(maxsize=2)  # an epoch's steps come one after the other
def _order(count: int, seed: str) -> Sequence[int]:
    order = array("q", range(count))
    random.Random(seed).shuffle(order)
    return order
