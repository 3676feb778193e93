"""Collecting what judges are trained on: hidden states at the exits, and the full model's verdict.

The full model answers every prompt greedily, or follows the answer given. The states at each exit
are kept, and at every token that decoding would judge the rank of the exit's top token among the
full model's logits; so a relaxation of the labels to the top k needs no new collection. Texts go to
disk shard by shard, in a directory named for all that determines them, so that an interrupted
collection goes on where it was, and another judge finds it done. What a shard holds depends neither
on the memory at hand nor on who collects it: any number of workers make the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dynexit.digests import file_digest, json_digest
from dynexit.errors import UserError
from dynexit.exits.fingerprint import fingerprint
from dynexit.files import read_json, write_json
from dynexit.locks import claimed
from dynexit.models import Model
from dynexit.models.layerwise import AllLayers, LayerAccess, OneLayer, bring_in
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.corpus import Sample, TextFile, tokenize
from dynexit.training.division import (
    Division,
    Space,
    divide,
    load_division,
    save_division,
)
from dynexit.training.memory import one_layer_at_a_time
from dynexit.training.progress import progress_bar
from dynexit.training.shard_work import ShardWork
from dynexit.training.store import Store, is_intact, write_shard
from dynexit.workers import ALONE, Workers

FORMAT = 2


def collect(
    model: Model,
    samples: Sequence[Sample],
    settings: CollectSettings,
    work: Path,
    workers: Workers = ALONE,
    memory: int | None = None,
) -> Store:
    """The store of these samples under ``work``, complete; what is there already and unchanged is
    kept. Within ``memory`` bytes where that is set, with one layer at a time if it must be (the
    model is loaded with its layers on disk then)."""
    key = _key(model, samples, settings)
    digest = json_digest(key)
    directory = work / f"store-{digest[:16]}"
    with claimed(directory, within=True) if workers.first else nullcontext():
        if workers.first:
            _begin(directory, {**key, "digest": digest}, model, samples, settings)
        workers.wait()
        division = load_division(directory / "division.safetensors")
        store = Store(directory, settings.layers, division.shards, whole=division.whole)
        access = _access(model, division, settings, memory)
        work_on = ShardWork(model, samples, settings, division, access)
        missing = _missing(store, digest, workers)
        with progress_bar("collecting", len(missing), shown=workers.first) as advance:
            for index in workers.share(missing):
                write_shard(store.path(index), work_on.shard(index), digest)
                advance(min(workers.count, len(missing)), "")
        workers.wait()
    return store


def _key(model: Model, samples: Sequence[Sample], settings: CollectSettings) -> dict[str, Any]:
    """All that determines a collection."""
    if isinstance(samples, TextFile):
        texts = samples.key
    else:
        texts = [json_digest([[s.prompt, s.answer, s.group] for s in samples])]
    return {
        "format": FORMAT,
        "backbone": asdict(fingerprint(model.backbone)),
        "dtype": str(model.backbone.dtype).removeprefix("torch."),
        "settings": {**asdict(settings), "layers": list(settings.layers)},
        "samples": len(samples),
        "texts": texts,
    }


def _begin(
    directory: Path,
    manifest: dict[str, Any],
    model: Model,
    samples: Sequence[Sample],
    settings: CollectSettings,
) -> None:
    """Divide the texts and write down what the collection is, unless that is done and unchanged."""
    path, place = directory / "manifest.json", directory / "division.safetensors"
    known = read_json(path) if path.exists() else None
    if known is not None and known.get("digest") != manifest["digest"]:
        raise UserError(
            f"{directory} holds a collection of another model, text or setting than its name says; "
            "move it away"
        )
    if known is not None and place.exists():
        if file_digest(place) == known.get("division"):
            return
        _tell_changed(place)
    division = _divided(model, samples, settings)
    save_division(place, division)
    write_json(path, {**manifest, "shards": division.shards, "division": file_digest(place)})


def _divided(model: Model, samples: Sequence[Sample], settings: CollectSettings) -> Division:
    space = Space(
        settings.disk_budget,
        settings.token_bytes(model.backbone.config.hidden),
        settings.subsample,
    )

    def sizes(index: int) -> tuple[int, int, bool]:
        sample = tokenize(samples[index], model.tokenizer, settings.max_prompt_tokens)
        free = sample.answer is None
        answer = settings.max_new_tokens if sample.answer is None else len(sample.answer)
        return len(sample.prompt), answer, free

    return divide(sizes, len(samples), settings.seed, settings.shard_tokens, space)


def _missing(store: Store, digest: str, workers: Workers) -> list[int]:
    """The shards that are not there as they were written; of each that changed it is told."""
    flags = torch.zeros(store.shards, dtype=torch.long)
    for index in workers.share(range(store.shards)):
        path = store.path(index)
        flags[index] = 1
        if path.exists():
            flags[index] = 0 if is_intact(path, digest) else 1
            if flags[index]:
                _tell_changed(path)
    return workers.total(flags).nonzero().flatten().tolist()


def _tell_changed(path: Path) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"{path} has changed since it was written; it is made anew")


def _access(
    model: Model, division: Division, settings: CollectSettings, memory: int | None
) -> LayerAccess:
    if memory is None:
        return AllLayers(model.backbone)
    load = division.load(settings.batch_tokens, settings.states)
    if one_layer_at_a_time(model.backbone, load, memory):
        return OneLayer(model.backbone)
    bring_in(model.backbone)
    return AllLayers(model.backbone)
