"""Writes a checkpoint with random weights for a given ``config.json``, shard by shard.

No more than one shard is ever in memory, so a 14.5 GB checkpoint can be made on a small machine.
Weights are scaled like a trained model's, so that bf16 activations stay finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dynexit.files import atomic_directory, write_json
from dynexit.models.backbone import Backbone
from dynexit.models.families import parse_config
from dynexit.models.weights import sources

SHARD_BYTES = 1 << 30
POOL = 1 << 26  # random numbers, at most: drawing is slow


def write_checkpoint(
    config: dict[str, Any], out: Path, tick: Callable[[], None] = lambda: None
) -> int:
    """Write config and weights in the config's dtype into the directory ``out``, which is there
    when all is written and not before; returns the bytes of weights. ``tick`` is called once for
    each layer. Weights depend on the config alone."""
    parsed = parse_config(config)
    with torch.device("meta"):
        backbone = Backbone(parsed)
    shapes = {name: p.shape for name, p in backbone.named_parameters()}
    names = {name: source.names[0] for name, source in sources(parsed, iter(shapes)).items()}
    pool = _pool(sum(shape.numel() for shape in shapes.values()), parsed.dtype)
    weight_map: dict[str, str] = {}
    total = 0
    with atomic_directory(out, marker="config.json") as folder:
        for number, shard in enumerate(_shards(shapes, pool, tick), start=1):
            file = f"model-{number:05d}.safetensors"
            renamed = {names[name]: tensor for name, tensor in shard.items()}
            save_file(renamed, folder / file, metadata={"format": "pt"})
            weight_map.update(dict.fromkeys(renamed, file))
            total += sum(tensor.nbytes for tensor in shard.values())
            shard.clear()
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)
        write_json(folder / "config.json", config)
    return total


def _shards(
    shapes: dict[str, torch.Size], pool: Tensor, tick: Callable[[], None]
) -> Iterator[dict[str, Tensor]]:
    """Tensors by our names, about ``SHARD_BYTES`` at a time."""
    shard: dict[str, Tensor] = {}
    total = held = 0
    layer = ""
    for name, shape in shapes.items():
        if name.startswith("layers.") and (now := name.split(".")[1]) != layer:
            layer = now
            tick()
        tensor = shard[name] = _random(name, shape, pool, total)
        total, held = total + tensor.nbytes, held + tensor.nbytes
        del tensor  # the writer empties the shard, and nothing else may keep its last one
        if held >= SHARD_BYTES:
            yield shard
            shard, held = {}, 0
    if shard:
        yield shard


def _pool(wanted: int, dtype: torch.dtype) -> Tensor:
    """Random numbers drawn once and reused at shifting offsets."""
    size = min(POOL, 2 * wanted)
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)


def _random(name: str, shape: torch.Size, pool: Tensor, offset: int) -> Tensor:
    if name.endswith("norm.weight") or name.endswith(".D"):
        return torch.ones(shape, dtype=pool.dtype)
    if name.endswith("A_log"):
        return torch.log(torch.linspace(1, 16, shape.numel())).reshape(shape).to(pool.dtype)
    if name.endswith("dt_bias"):
        return torch.full(shape, -4.0, dtype=pool.dtype)
    size, start = shape.numel(), (offset * 7919) % (len(pool) // 2)
    source = pool[start:]
    repeats = -(-size // len(source))
    flat = source.repeat(repeats)[:size] if repeats > 1 else source[:size].clone()
    return flat.reshape(shape).mul_(0.5 * shape[-1] ** -0.5)
