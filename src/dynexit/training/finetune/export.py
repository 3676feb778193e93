"""Writing a fine-tuned backbone as a checkpoint like the one it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynexit.files import atomic_directory, read_json, write_json
from dynexit.models import Model
from dynexit.models.backbone import Backbone
from dynexit.models.checkpoint import Checkpoint
from dynexit.models.shards import SHARD_BYTES, ShardWriter, copy_companions
from dynexit.models.weights import sources
from dynexit.training.finetune.lora import LoraProjection

TOLD = "finetune.json"


def write_finetuned(
    model: Model, out: Path, told: Mapping[str, Any], shard_bytes: int = SHARD_BYTES
) -> None:
    """Write ``out``: every tensor under the name and in the type that it had, adapters merged, with
    ``told`` beside them in ``finetune.json``. One tensor at a time is made."""
    checkpoint = Checkpoint(model.directory)
    trained = _names(model.backbone, checkpoint)
    with atomic_directory(out, marker=TOLD) as directory:
        writer = ShardWriter(directory, out, shard_bytes)
        for name in checkpoint.names():
            _, before = checkpoint.tensor((name,))
            parts = [_tensor(model.backbone, one) for one in trained.get(name, ())]
            value = torch.cat(parts).cpu() if parts else before.clone()
            writer.add(name, value.to(before.dtype))
        writer.finish()
        copy_companions(model.directory, directory, read_json(model.directory / "config.json"))
        write_json(directory / TOLD, dict(told))


def _names(backbone: Backbone, checkpoint: Checkpoint) -> dict[str, list[str]]:
    """For each tensor of the checkpoint the parameters that it holds, one above the other."""
    own = [n for n, _ in backbone.named_parameters() if not n.endswith((".lora_a", ".lora_b"))]
    found: dict[str, list[tuple[int, str]]] = {}
    for name, source in sources(backbone.config, iter(own)).items():
        stored = next(n for n in source.names if n in checkpoint)
        found.setdefault(stored, []).append((source.part, name))
    return {stored: [name for _, name in sorted(parts)] for stored, parts in found.items()}


def _tensor(backbone: Backbone, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    module = backbone.get_submodule(owner)
    if isinstance(module, LoraProjection) and leaf == "weight":
        return module.merged()
    return backbone.get_parameter(name).detach()
