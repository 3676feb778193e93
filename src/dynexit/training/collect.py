"""Collecting what judges are trained on: hidden states at the exits, and the full model's verdict.

The full model answers every prompt greedily (or follows the answer given), then reads prompt and
answer once at full depth. The states at each exit are kept as bf16, and at every token that
decoding would judge the rank of the exit's top token among the full model's logits; so a relaxation
of the labels to the top k needs no new collection. Texts go to disk shard by shard. A directory is
named for all that determines it, so an interrupted collection goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from dynexit.exits.fingerprint import fingerprint
from dynexit.files import write_json
from dynexit.models import Backbone, Model
from dynexit.training.corpus import Sample, TokenSample, tokenize
from dynexit.training.oracle import greedy_answers, ranks_of
from dynexit.training.progress import progress_bar
from dynexit.training.store import Shard, Store, write_shard

FORMAT = 1
_STOP_TOKENS = 8  # a stop text is looked for in the last tokens of an answer


@dataclass(frozen=True)
class CollectSettings:
    """``layers`` are the exits. A shard is planned for at most ``shard_tokens`` tokens, which with
    the hidden states of all exits are in memory at once; the model reads at most ``batch_tokens``
    at once. With ``last`` the last layer's states are kept too, which translators are fitted to.
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
    answers = _answers(model, samples, settings)
    # the last token of an answer is never fed to the model
    texts = [[*s.prompt, *a[:-1]] for s, a in zip(samples, answers, strict=True)]
    lengths = torch.tensor([len(text) for text in texts])
    prompts = torch.tensor([len(sample.prompt) for sample in samples])
    kept, hidden = len(settings.layers), model.backbone.config.hidden
    total = int(lengths.sum())
    states = torch.empty(kept + settings.last, total, hidden, dtype=torch.bfloat16)
    shard = Shard(
        states[:kept],
        torch.full((kept, total), 255, dtype=torch.uint8),
        lengths,
        prompts,
        torch.tensor([sample.group for sample in samples]),
        states[kept] if settings.last else None,
    )
    for batch in _batched(lengths.tolist(), settings.batch_tokens):
        _read(model.backbone, settings.layers, [texts[i] for i in batch], batch, shard)
    return shard


def _answers(
    model: Model, samples: Sequence[TokenSample], settings: CollectSettings
) -> list[Sequence[int]]:
    answers: list[Sequence[int]] = [sample.answer or () for sample in samples]
    open_ = [i for i, sample in enumerate(samples) if sample.answer is None]
    finished = _ending(model, settings.stop)
    needs = [_most(samples[i], settings) for i in open_]
    for batch in _batched(needs, settings.batch_tokens):
        chosen = [open_[i] for i in batch]
        prompts = [samples[i].prompt for i in chosen]
        found = greedy_answers(model.backbone, prompts, settings.max_new_tokens, finished)
        for i, answer in zip(chosen, found, strict=True):
            answers[i] = answer
    return answers


def _ending(model: Model, stop: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether an answer is finished: by an end-of-text token or one of the stop texts."""

    def finished(answer: list[int]) -> bool:
        if answer[-1] in model.eos_ids:
            return True
        tail = model.tokenizer.decode(answer[-_STOP_TOKENS:])
        return any(text in tail for text in stop)

    return finished


def _batched(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most ``tokens`` with its padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[i] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _read(
    backbone: Backbone,
    layers: Sequence[int],
    texts: list[list[int]],
    sequences: list[int],
    shard: Shard,
) -> None:
    """Read texts at full depth and put their states and ranks where the sequences are."""
    place = backbone.place([0] * len(texts), [len(text) for text in texts])
    padded = [text + [0] * (place.width - len(text)) for text in texts]
    index = shard.starts[sequences][:, None] + torch.arange(place.width)
    index = index[place.valid.cpu()]  # of each token in the shard
    judged = shard.judged[index]
    hidden, start = backbone.embed(torch.tensor(padded, device=backbone.device)), 0
    at_exits: list[Tensor] = []
    for exit, layer in enumerate(layers):
        hidden, start = backbone.run(hidden, None, start, layer, place), layer
        tokens = hidden[place.valid]
        shard.hidden[exit, index] = tokens.to("cpu", torch.bfloat16)
        at_exits.append(tokens[judged.to(tokens.device)])
    last = backbone.run(hidden, None, start, backbone.depth, place)[place.valid]
    if shard.last is not None:
        shard.last[index] = last.to("cpu", torch.bfloat16)
    shard.ranks[:, index[judged]] = ranks_of(backbone, at_exits, last[judged.to(last.device)])
