"""Collected hidden states and labels, on disk in shards and read one shard at a time.

A shard holds whole sequences one after another. Of each sequence the store has every token that
decoding would feed to the model: the prompt, and the answer without its last token. Tokens from the
prompt's last one on are those that decoding judges. A store of single tokens has some of these
alone, each text's as a sequence with a prompt of one token.

A shard's file says which collection it is of, which part, and the SHA-256 of its numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dynexit.errors import UserError
from dynexit.files import atomic_path
from dynexit.workers import ALONE, Workers

VALIDATION_SHARE = 5  # every fifth group is for validation
_PADDING = 1.5  # the longest sequence of a batch over the shortest
_SAID = "collection, shard, sha256"
TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True)
class Shard:
    """``hidden`` [exits, tokens, hidden] and ``ranks`` [exits, tokens] (of the exit's top token in
    the full model's ranking, 0 for the best, at most 255; meaningful where decoding judges);
    ``lengths``, ``prompts`` (prompt tokens) and ``groups`` [sequences]; ``last`` [tokens, hidden],
    the last layer's states, where they were asked for."""

    hidden: Tensor
    ranks: Tensor
    lengths: Tensor
    prompts: Tensor
    groups: Tensor
    last: Tensor | None = None

    @cached_property
    def starts(self) -> Tensor:
        """The first token of every sequence [sequences]."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def judged(self) -> Tensor:
        """Which tokens decoding judges, bool [tokens]."""
        index = torch.arange(int(self.lengths.sum()))
        firsts = (self.starts + self.prompts - 1).repeat_interleave(self.lengths)
        return index >= firsts

    @cached_property
    def held_out(self) -> Tensor:
        """Which tokens are for validation, bool [tokens]."""
        return (self.groups % VALIDATION_SHARE == 0).repeat_interleave(self.lengths)

    def part(self, name: str) -> list[int]:
        """The sequences for training or for validation."""
        held_out = (self.groups % VALIDATION_SHARE == 0).tolist()
        return [i for i, held in enumerate(held_out) if held == (name == VALIDATION)]


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences: ``hidden`` [exits, B, T, hidden], ``ranks`` [exits, B, T], and of the
    tokens which are there (``valid``) and which decoding judges (``judged``), bool [B, T]."""

    hidden: Tensor
    ranks: Tensor
    valid: Tensor
    judged: Tensor

    def pieces(self, size: int) -> Iterator[Batch]:
        """The batch in parts of at most ``size`` sequences."""
        for begin in range(0, len(self.valid), size):
            rows = slice(begin, begin + size)
            yield Batch(
                self.hidden[:, rows], self.ranks[:, rows], self.valid[rows], self.judged[rows]
            )


@dataclass(frozen=True)
class Store:
    """A directory of ``shards`` shards; ``labels`` is where ranks are read from instead, if set.
    ``whole`` tells whether it has whole texts, and not single tokens of them."""

    directory: Path
    layers: tuple[int, ...]
    shards: int
    labels: Path | None = None
    whole: bool = True

    def path(self, index: int) -> Path:
        return self.directory / f"shard-{index:05d}.safetensors"

    def relabelled(self, labels: Path) -> Store:
        """The same states with the ranks in ``labels`` (see ``write_ranks``)."""
        return replace(self, labels=labels)

    def shard(self, index: int, *, states: bool = True) -> Shard:
        """Shard ``index``; without its hidden states (then empty) where they are not needed."""
        tensors = _read(self.path(index), skip=set() if states else {"hidden", "last"})
        if self.labels is not None:
            tensors |= _read(ranks_path(self.labels, index), skip=set())
        if not states:
            tensors["hidden"] = torch.empty(0)
        try:
            return Shard(**tensors)
        except TypeError:
            raise UserError(f"{self.path(index)} is no shard of states; remove it") from None

    def batches(
        self,
        part: str,
        size: int,
        tokens: int,
        *,
        prompts: bool,
        seed: int,
        workers: Workers = ALONE,
    ) -> Iterator[Batch]:
        """All sequences of a part once, in the order of a seed, at most ``size`` to a batch and not
        more than ``tokens`` with padding (but at least one sequence); without ``prompts`` only the
        tokens that decoding judges. Of several ``workers`` each gets its share of the batches."""
        if prompts and not self.whole:
            raise UserError(
                f"{self.directory} has single tokens, and this judge remembers whole texts; "
                "collect with --subsample texts"
            )
        count = 0
        rng = torch.Generator().manual_seed(seed)
        for index in torch.randperm(self.shards, generator=rng).tolist():
            shard = self.shard(index)
            lengths = shard.lengths if prompts else shard.lengths - shard.prompts + 1
            chosen = shard.part(part)
            order = [chosen[i] for i in torch.randperm(len(chosen), generator=rng).tolist()]
            for group in _grouped(order, lengths.tolist(), size, tokens, rng):
                if count % workers.count == workers.rank:
                    yield _batch(shard, group, prompts)
                count += 1


def write_shard(path: Path, shard: Shard, origin: str = "") -> None:
    """Write a shard, whole or not at all; ``origin`` names the collection that it is of."""
    tensors = {
        name: getattr(shard, name).contiguous()
        for name in ("hidden", "ranks", "lengths", "prompts", "groups")
    }
    if shard.last is not None:
        tensors["last"] = shard.last.contiguous()
    # one entry, as the library writes several in an order of chance
    said = json.dumps([origin, path.stem, _digest(tensors)])
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_SAID: said})


def is_intact(path: Path, origin: str) -> bool:
    """Whether the shard at ``path`` is the one that was written there for that collection. All of
    it is read."""
    try:
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(_SAID)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return said == json.dumps([origin, path.stem, _digest(tensors)])
    except (SafetensorError, OSError):
        return False


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def ranks_path(directory: Path, index: int) -> Path:
    return directory / f"ranks-{index:05d}.safetensors"


def write_ranks(directory: Path, index: int, ranks: Tensor) -> None:
    """Other ranks [exits, tokens] for shard ``index``."""
    with atomic_path(ranks_path(directory, index)) as temporary:
        save_file({"ranks": ranks.contiguous()}, temporary)


def _read(path: Path, skip: set[str]) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name not in skip}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} is gone; run the same command again to collect it anew") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run again") from None


def _grouped(
    order: list[int], lengths: list[int], size: int, tokens: int, rng: torch.Generator
) -> list[list[int]]:
    """Sequences in batches of similar length: sorted within stretches of the random order only, so
    that batches still differ from epoch to epoch."""
    groups: list[list[int]] = []
    for begin in range(0, len(order), 8 * size):
        stretch = sorted(order[begin : begin + 8 * size], key=lambda i: lengths[i])
        current: list[int] = []
        for i in stretch:  # ascending, so the newest is the longest
            full = len(current) == size or (len(current) + 1) * lengths[i] > tokens
            if current and (full or lengths[i] > _PADDING * lengths[current[0]]):
                groups.append(current)
                current = []
            current.append(i)
        groups.append(current)
    return [groups[i] for i in torch.randperm(len(groups), generator=rng).tolist()]


def _batch(shard: Shard, sequences: Sequence[int], prompts: bool) -> Batch:
    chosen = torch.tensor(sequences)
    starts, lengths, first = shard.starts[chosen], shard.lengths[chosen], shard.prompts[chosen] - 1
    if not prompts:
        starts, lengths, first = starts + first, lengths - first, torch.zeros_like(first)
    columns = torch.arange(int(lengths.max()))
    valid = columns < lengths[:, None]
    index = torch.where(valid, starts[:, None] + columns, 0)
    return Batch(
        shard.hidden[:, index], shard.ranks[:, index], valid, valid & (columns >= first[:, None])
    )
