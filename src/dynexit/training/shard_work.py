"""A shard: its texts read and answered by the full model, and put together what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from dynexit.models import Model
from dynexit.models.layerwise import LayerAccess, OneLayer
from dynexit.training.collect_settings import STORED, CollectSettings
from dynexit.training.corpus import Sample, TokenSample, tokenize
from dynexit.training.division import Division, chosen_tokens
from dynexit.training.oracle import MAX_RANK, Oracle, Reading
from dynexit.training.store import Shard

_STOP_TOKENS = 8  # a stop text is looked for in the last tokens of an answer


@dataclass(frozen=True)
class ShardWork:
    """What the shards of a collection are made from, and how."""

    model: Model
    samples: Sequence[Sample]
    settings: CollectSettings
    division: Division
    access: LayerAccess

    def shard(self, index: int) -> Shard:
        """Shard ``index``: its texts read, answered and looked at."""
        settings, part = self.settings, self.division.part(index)
        samples = [self._tokens(place) for place in part]
        needs = [int(n) for n in self.division.needs()[part.start : part.stop]]
        rows = self.model.backbone.rows_within(max(needs))
        readings = [Reading() for _ in samples]
        batches = list(_batched(needs, settings.batch_tokens, rows))
        # with one layer in memory all of a shard goes through it before the next
        at_once = len(batches) if isinstance(self.access, OneLayer) else 1
        oracle = self._oracle()
        for begin in range(0, len(batches), at_once):
            group = batches[begin : begin + at_once]
            found = oracle.consult([[samples[i] for i in batch] for batch in group])
            for batch, seen in zip(group, found, strict=True):
                for i, reading in zip(batch, seen, strict=True):
                    readings[i] = reading
        if not self.division.whole:
            return _thinned(samples, readings, self._quotas(part), len(settings.layers))
        return _assembled(samples, readings, len(settings.layers))

    def _tokens(self, place: int) -> TokenSample:
        sample = self.samples[int(self.division.order[place])]
        return tokenize(sample, self.model.tokenizer, self.settings.max_prompt_tokens)

    def _quotas(self, part: range) -> list[tuple[int, str]]:
        """How many judged tokens of each text are kept, and the seed of which."""
        return [
            (int(self.division.quotas[p]), f"{self.settings.seed}-{self.division.order[p]}")
            for p in part
        ]

    def _oracle(self) -> Oracle:
        return Oracle(
            self.model.backbone,
            self.settings.layers,
            self.settings.max_new_tokens,
            ending(self.model, self.settings.stop),
            self.settings.last,
            STORED[self.settings.stored],
            self.access,
        )


def _assembled(samples: Sequence[TokenSample], readings: Sequence[Reading], exits: int) -> Shard:
    """The shard of whole texts."""
    states = torch.cat([piece for reading in readings for piece in reading.states], dim=1)
    lengths = [sum(piece.shape[1] for piece in reading.states) for reading in readings]
    prompts = [len(sample.prompt) for sample in samples]
    shard = _shard(states, lengths, prompts, [s.group for s in samples], exits)
    ranks = [piece for reading in readings for piece in reading.ranks]
    shard.ranks[:, shard.judged] = torch.cat(ranks, dim=1)
    return shard


def _thinned(
    samples: Sequence[TokenSample],
    readings: Sequence[Reading],
    quotas: Sequence[tuple[int, str]],
    exits: int,
) -> Shard:
    """The shard of single tokens: of each text some that decoding judges, and nothing else."""
    states, ranks, lengths, groups = [], [], [], []
    for sample, reading, (quota, seed) in zip(samples, readings, quotas, strict=True):
        judged = torch.cat(reading.ranks, dim=1)
        chosen = chosen_tokens(judged.shape[1], quota, seed)
        if len(chosen):
            first = len(sample.prompt) - 1
            states.append(torch.cat(reading.states, dim=1)[:, first + chosen])
            ranks.append(judged[:, chosen])
            lengths.append(len(chosen))
            groups.append(sample.group)
    whole = torch.cat(states, dim=1) if states else readings[0].states[0][:, :0]
    shard = _shard(whole, lengths, [1] * len(lengths), groups, exits)
    if ranks:
        shard.ranks.copy_(torch.cat(ranks, dim=1))
    return shard


def _shard(
    states: torch.Tensor, lengths: list[int], prompts: list[int], groups: list[int], exits: int
) -> Shard:
    return Shard(
        hidden=states[:exits],
        ranks=torch.full((exits, states.shape[1]), MAX_RANK, dtype=torch.uint8),
        lengths=torch.tensor(lengths, dtype=torch.long),
        prompts=torch.tensor(prompts, dtype=torch.long),
        groups=torch.tensor(groups, dtype=torch.long),
        last=states[exits] if len(states) > exits else None,
    )


def ending(model: Model, stop: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether an answer is finished: by an end-of-text token or one of the stop texts."""

    def finished(answer: list[int]) -> bool:
        if answer[-1] in model.eos_ids:
            return True
        tail = model.tokenizer.decode(answer[-_STOP_TOKENS:])
        return any(text in tail for text in stop)

    return finished


def _batched(lengths: Sequence[int], tokens: int, rows: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most ``rows`` and of at most ``tokens`` with
    its padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) == rows or (len(batch) + 1) * lengths[i] > tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
