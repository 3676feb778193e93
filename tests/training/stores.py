"""Stores made of numbers instead of a model, where the right answer is known."""

from pathlib import Path

import torch

from dynexit.training.store import Shard, Store, write_shard

HIDDEN, LAYERS = 16, (2, 4, 5)


def separable_store(
    directory: Path,
    *,
    sequences: int = 60,
    shards: int = 2,
    flipped: float = 0.0,
    seed: int = 0,
    settled: bool = False,
) -> Store:
    """At every exit the label is whether a direction of the hidden state is positive; ``flipped``
    is the share of labels turned round. ``settled`` states are the same at all exits."""
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(LAYERS), HIDDEN, generator=rng)
    for index in range(shards):
        prompts = torch.randint(1, 5, (sequences,), generator=rng)
        lengths = prompts + torch.randint(0, 8, (sequences,), generator=rng)
        hidden = torch.randn(len(LAYERS), int(lengths.sum()), HIDDEN, generator=rng)
        hidden = hidden[:1].expand_as(hidden).clone() if settled else hidden
        wrong = torch.einsum("eth,eh->et", hidden, directions) < 0
        wrong ^= torch.rand(wrong.shape, generator=rng) < flipped
        ranks = wrong.to(torch.uint8) * 3
        groups = torch.arange(sequences) + index * sequences
        shard = Shard(hidden.bfloat16(), ranks, lengths, prompts, groups)
        write_shard(directory / f"shard-{index:05d}.safetensors", shard)
    return Store(directory, LAYERS, shards)


def history_store(directory: Path, sequences: int = 150) -> Store:
    """A token may leave where the judged token before it had its mark set: only a judge with a
    memory can tell."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 12, (sequences,), generator=rng)
    prompts = torch.randint(1, 4, (sequences,), generator=rng)
    total = int(lengths.sum())
    hidden = torch.randn(1, total, HIDDEN, generator=rng)
    marks = torch.rand(total, generator=rng) < 0.5
    hidden[0, :, 0] = torch.where(marks, 4.0, -4.0)
    ranks = torch.where(marks.roll(1), 0, 9).to(torch.uint8)[None]
    shard = Shard(hidden.bfloat16(), ranks, lengths, prompts, torch.arange(sequences))
    write_shard(directory / "shard-00000.safetensors", shard)
    return Store(directory, (2,), 1)
