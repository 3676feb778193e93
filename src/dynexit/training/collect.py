"""Collecting what judges are trained on: hidden states at the exits, and the full model's verdict.

The full model answers every prompt greedily, or follows the answer given. The states at each exit
are kept as bf16, and at every token that decoding would judge the rank of the exit's top token
among the full model's logits; so a relaxation of the labels to the top k needs no new collection.
Texts go to disk shard by shard, in a directory named for all that determines them, so that an
interrupted collection goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dynexit.exits.fingerprint import fingerprint
from dynexit.files import write_json
from dynexit.models import Model
from dynexit.training.corpus import Sample, TokenSample, tokenize
from dynexit.training.oracle import MAX_RANK, Oracle, Reading
from dynexit.training.progress import progress_bar
from dynexit.training.store import Shard, Store, write_shard

FORMAT = 1
_STOP_TOKENS = 8  # a stop text is looked for in the last tokens of an answer


@dataclass(frozen=True)
class CollectSettings:
    """``layers`` are the exits. A shard is planned for at most ``shard_tokens`` tokens, which with
    the hidden states of all exits are in memory at once. The model reads at most ``batch_tokens``
    at once, of no more texts than memory should hold the states of. With ``last`` the last layer's
    states are kept too, which translators are fitted to.
    """

    layers: tuple[int, ...]
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    max_prompt_tokens: int = 2048
    shard_tokens: int = 8192
    batch_tokens: int = 4096
    last: bool = False
    seed: int = 0


def collect(
    model: Model, samples: Sequence[Sample], settings: CollectSettings, work: Path
) -> Store:
    """The store of these samples under ``work``, complete; what is there already is kept."""
    key = {
        "format": FORMAT,
        "backbone": asdict(fingerprint(model.backbone)),
        "settings": asdict(settings),
        "samples": [[s.prompt, s.answer, s.group] for s in samples],
    }
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    tokens = [tokenize(sample, model.tokenizer, settings.max_prompt_tokens) for sample in samples]
    random.Random(f"order-{settings.seed}").shuffle(tokens)
    plan = list(_planned(tokens, settings))
    store = Store(work / f"store-{digest[:16]}", settings.layers, len(plan))
    key["samples"] = len(samples)
    write_json(store.directory / "manifest.json", {**key, "digest": digest, "shards": len(plan)})
    with progress_bar("collecting", len(tokens)) as advance:
        for index, part in enumerate(plan):
            if not store.path(index).exists():
                write_shard(store.path(index), _shard(model, part, settings))
            advance(len(part), "")
    return store


def _planned(
    samples: Iterable[TokenSample], settings: CollectSettings
) -> Iterator[list[TokenSample]]:
    """Samples by shard, each counted with the longest answer it may get."""
    part: list[TokenSample] = []
    room = settings.shard_tokens
    for sample in samples:
        need = _most(sample, settings)
        if part and need > room:
            yield part
            part, room = [], settings.shard_tokens
        part.append(sample)
        room -= need
    if part:
        yield part


def _most(sample: TokenSample, settings: CollectSettings) -> int:
    answer = settings.max_new_tokens if sample.answer is None else len(sample.answer)
    return len(sample.prompt) + answer


def _shard(model: Model, samples: Sequence[TokenSample], settings: CollectSettings) -> Shard:
    oracle = Oracle(
        model.backbone,
        settings.layers,
        settings.max_new_tokens,
        _ending(model, settings.stop),
        settings.last,
    )
    readings = [Reading() for _ in samples]
    needs = [_most(sample, settings) for sample in samples]
    rows = model.backbone.rows_within(max(needs))
    for batch in _batched(needs, settings.batch_tokens, rows):
        for i, reading in zip(batch, oracle.consult([samples[i] for i in batch]), strict=True):
            readings[i] = reading
    return _assembled(samples, readings, len(settings.layers))


def _assembled(samples: Sequence[TokenSample], readings: Sequence[Reading], exits: int) -> Shard:
    states = torch.cat([piece for reading in readings for piece in reading.states], dim=1)
    lengths = [sum(piece.shape[1] for piece in reading.states) for reading in readings]
    shard = Shard(
        hidden=states[:exits],
        ranks=torch.full((exits, states.shape[1]), MAX_RANK, dtype=torch.uint8),
        lengths=torch.tensor(lengths),
        prompts=torch.tensor([len(sample.prompt) for sample in samples]),
        groups=torch.tensor([sample.group for sample in samples]),
        last=states[exits] if len(states) > exits else None,
    )
    ranks = [piece for reading in readings for piece in reading.ranks]
    shard.ranks[:, shard.judged] = torch.cat(ranks, dim=1)
    return shard


def _ending(model: Model, stop: Sequence[str]) -> Callable[[list[int]], bool]:
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
