"""Writes a checkpoint with random weights for a given ``config.json``, shard by shard.

No more than one shard is ever in memory, so a 14.5 GB checkpoint can be made on a small machine.
Weights are scaled like a trained model's, so that bf16 activations stay finite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dynexit.files import write_json
from dynexit.models.backbone import Backbone
from dynexit.models.families import parse_config
from dynexit.models.weights import sources

SHARD_BYTES = 1 << 30
POOL = 1 << 26  # random numbers drawn once and reused at shifting offsets: drawing is slow


def write_checkpoint(config: dict[str, Any], out: Path) -> int:
    """Write config and weights in the config's dtype into ``out``; returns the bytes of weights."""
    parsed = parse_config(config)
    with torch.device("meta"):
        backbone = Backbone(parsed)
    shapes = {name: p.shape for name, p in backbone.named_parameters()}
    names = {name: source.names[0] for name, source in sources(parsed, iter(shapes)).items()}
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).to(parsed.dtype)
    out.mkdir(parents=True, exist_ok=True)
    shard: dict[str, Tensor] = {}
    weight_map: dict[str, str] = {}
    total = held = number = 0
    for name, shape in shapes.items():
        tensor = _random(name, shape, pool, total)
        shard[names[name]] = tensor
        total, held = total + tensor.nbytes, held + tensor.nbytes
        if held >= SHARD_BYTES:
            number, held = number + 1, 0
            _write(shard, weight_map, out, number)
    if shard:
        _write(shard, weight_map, out, number + 1)
    write_json(
        out / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )
    write_json(out / "config.json", config)
    return total


def _write(shard: dict[str, Tensor], weight_map: dict[str, str], out: Path, number: int) -> None:
    file = f"model-{number:05d}.safetensors"
    save_file(shard, out / file, metadata={"format": "pt"})
    weight_map.update(dict.fromkeys(shard, file))
    shard.clear()


def _random(name: str, shape: torch.Size, pool: Tensor, offset: int) -> Tensor:
    if name.endswith("norm.weight") or name.endswith(".D"):
        return torch.ones(shape, dtype=pool.dtype)
    if name.endswith("A_log"):
        return torch.log(torch.linspace(1, 16, shape.numel())).reshape(shape).to(pool.dtype)
    if name.endswith("dt_bias"):
        return torch.full(shape, -4.0, dtype=pool.dtype)
    size, start = shape.numel(), (offset * 7919) % (POOL // 2)
    source = pool[start:]
    repeats = -(-size // len(source))
    flat = source.repeat(repeats)[:size] if repeats > 1 else source[:size].clone()
    return flat.reshape(shape).mul_(0.5 * shape[-1] ** -0.5)
