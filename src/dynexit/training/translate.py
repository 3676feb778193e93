"""Fitting translators (tuned lens), and the labels as they are with them.

Belrose et al. (2023, section 3.1): the loss is the divergence KL(full model || exit) of the
next-token distributions, so no text is needed but what was collected anyway.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynexit.exits.translator import Translators
from dynexit.files import atomic_path
from dynexit.models import Backbone
from dynexit.training.oracle import ranks_of
from dynexit.training.progress import progress_bar
from dynexit.training.store import Shard, Store, write_ranks
from dynexit.workers import ALONE, Workers

EPOCHS = 3
RATE = 1e-3
TOKENS = 256


def fit_translators(
    backbone: Backbone, store: Store, work: Path, seed: int, workers: Workers = ALONE
) -> Translators:
    """Translators for the exits of ``store`` (collected with the last layer's states), fitted to
    its training part; kept under ``work``, so a later call finds them there. Of several
    ``workers`` the first one fits."""
    path = work / "translators.safetensors"
    translators = Translators(store.layers, backbone.config.hidden).to(backbone.device)
    if workers.first and not path.exists():
        _fit(backbone, store, translators, seed)
        with atomic_path(path) as temporary:
            save_file(translators.state_dict(), temporary)
    workers.wait()
    translators.load_state_dict(load_file(path))
    return translators.eval().requires_grad_(False)


def relabel(
    backbone: Backbone,
    store: Store,
    translators: Translators,
    work: Path,
    workers: Workers = ALONE,
) -> Store:
    """The store with the ranks of the translated readouts, written under ``work``."""
    for index in workers.share(range(store.shards)):
        shard = store.shard(index)
        hidden, last = _judged(shard, shard.judged, backbone)
        ranks = shard.ranks.clone()
        with torch.inference_mode():
            translated = [translators.apply(exit, h) for exit, h in enumerate(hidden)]
            ranks[:, shard.judged], _ = ranks_of(backbone, translated, last)
        write_ranks(work, index, ranks)
    workers.wait()
    return store.relabelled(work)


def _fit(backbone: Backbone, store: Store, translators: Translators, seed: int) -> None:
    optimizer = torch.optim.AdamW(translators.parameters(), lr=RATE, weight_decay=1e-3)
    rng = torch.Generator().manual_seed(seed)
    with progress_bar("fitting translators", EPOCHS * store.shards) as advance:
        for _ in range(EPOCHS):
            for index in torch.randperm(store.shards, generator=rng).tolist():
                _learn(backbone, store.shard(index), translators, optimizer, rng)
                advance(1, "")


def _learn(
    backbone: Backbone,
    shard: Shard,
    translators: Translators,
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
) -> None:
    hidden, last = _judged(shard, shard.judged & ~shard.held_out, backbone)
    for chosen in torch.split(torch.randperm(len(last), generator=rng), TOKENS):
        with torch.no_grad():
            target = backbone.readout(last[chosen]).float().log_softmax(-1)
        optimizer.zero_grad(set_to_none=True)
        for exit, states in enumerate(hidden):
            logits = backbone.readout(translators.apply(exit, states[chosen]))
            guess = logits.float().log_softmax(-1)
            F.kl_div(guess, target, reduction="batchmean", log_target=True).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(translators.parameters(), 1.0)
        optimizer.step()


def _judged(shard: Shard, which: Tensor, backbone: Backbone) -> tuple[list[Tensor], Tensor]:
    """The states of these tokens at each exit and after the last layer, as fp32 on the device."""
    assert shard.last is not None, "the store was collected without the last layer's states"
    hidden = shard.hidden[:, which].to(backbone.device, torch.float32)
    return list(hidden), shard.last[which].to(backbone.device, torch.float32)
