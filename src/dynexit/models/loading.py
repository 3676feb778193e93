"""Loading a model: its backbone, tokenizer and generation settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynexit.errors import UserError
from dynexit.files import read_json
from dynexit.models.backbone import Backbone
from dynexit.models.checkpoint import Checkpoint, cast
from dynexit.models.config import BackboneConfig
from dynexit.models.device import settle_determinism
from dynexit.models.families import parse_config
from dynexit.models.family_fields import DTYPES
from dynexit.models.hub import resolve_model
from dynexit.models.layerwise import assign
from dynexit.models.projection import Projection
from dynexit.models.quantized import STORED, quantized_like
from dynexit.models.tokenizer import Tokenizer, load_tokenizer
from dynexit.models.weights import Source, sources


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint. ``eos_ids`` end a text; ``name`` is what the user called it."""

    name: str
    directory: Path
    backbone: Backbone
    tokenizer: Tokenizer
    eos_ids: tuple[int, ...]
    generation: dict[str, Any]


def load_model(
    name: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    layers_on_disk: bool = False,
) -> Model:
    """Load ``name`` (directory, hub id or ``reference:NAME``), in the checkpoint's own dtype
    unless ``dtype`` says otherwise (weights then are converted one tensor at a time). For
    ``layers_on_disk`` see ``load_backbone``."""
    directory = resolve_model(name)
    raw = read_json(directory / "config.json")
    generation = _optional(directory / "generation_config.json")
    eos_ids = _eos_ids(generation.get("eos_token_id", raw.get("eos_token_id")), directory)
    backbone = load_backbone(directory, dtype, device, layers_on_disk=layers_on_disk)
    tokenizer = load_tokenizer(directory)
    return Model(name, directory, backbone, tokenizer, eos_ids, generation)


def read_config(directory: Path) -> BackboneConfig:
    """The shape of the checkpoint in ``directory``, without reading its weights."""
    return parse_config(read_json(directory / "config.json"))


def load_backbone(
    directory: Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    layers_on_disk: bool = False,
) -> Backbone:
    """The backbone of a checkpoint directory, frozen, its weights memory-mapped.

    Quantised matrices stay as they are stored, whatever ``dtype`` is. With ``layers_on_disk`` all
    of the layers does, to be run by ``layerwise.OneLayer``; the rest is as it is otherwise.
    """
    settle_determinism()
    config = read_config(directory)
    checkpoint = Checkpoint(directory)
    backbone = skeleton(config, checkpoint)
    target = config.dtype if dtype is None else dtype
    for name, tensor in stored_tensors(backbone, checkpoint):
        if layers_on_disk and name.startswith("layers."):
            assign(backbone, name, nn.Parameter(tensor, requires_grad=False))
            continue
        kept = name.rpartition(".")[2] in STORED
        tensor = (tensor if kept else cast(tensor, target)).to(device)
        assign(backbone, name, nn.Parameter(tensor, requires_grad=False))
    return backbone.eval()


def skeleton(config: BackboneConfig, checkpoint: Checkpoint) -> Backbone:
    """The backbone without weights, with quantised projections where the checkpoint has them."""
    with torch.device("meta"):
        backbone = Backbone(config)
        if config.quantization is None:
            return backbone
        named = dict(backbone.named_modules())
        plain = {name: m for name, m in named.items() if isinstance(m, Projection)}
        table = sources(config, (f"{name}.qweight" for name in plain))
        for name, projection in plain.items():
            if any(other in checkpoint for other in table[f"{name}.qweight"].names):
                assign(backbone, name, quantized_like(projection, config.quantization))
    return backbone


def stored_tensors(backbone: Backbone, checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensor for each parameter of ``backbone``: checked, mapped, unchanged."""
    parameters = dict(backbone.named_parameters())
    table = sources(backbone.config, iter(parameters))
    _check_head(backbone.config, checkpoint, table)
    for name, parameter in parameters.items():
        yield name, _fetch(checkpoint, table[name], parameter)


def _check_head(
    config: BackboneConfig, checkpoint: Checkpoint, table: Mapping[str, Source]
) -> None:
    heads = [source for name, source in table.items() if name.startswith("head.")]
    if not config.tied and not any(name in checkpoint for name in heads[0].names):
        raise UserError(
            f"{checkpoint.directory}: tensor 'lm_head.weight' is missing; "
            "fetch the checkpoint again, or set tie_word_embeddings in its config.json"
        )


def _fetch(checkpoint: Checkpoint, source: Source, like: Tensor) -> Tensor:
    name, tensor = checkpoint.tensor(source.names)
    floating = like.is_floating_point()
    if tensor.dtype not in DTYPES.values() if floating else tensor.dtype != like.dtype:
        reads = "fp32, bf16 and fp16 weights" if floating else f"{like.dtype} here"
        raise UserError(
            f"{checkpoint.directory}: tensor {name!r} has dtype {tensor.dtype}; "
            f"dynexit reads {reads}"
        )
    if source.parts > 1:
        tensor = tensor.chunk(source.parts)[source.part]
    if tensor.shape != like.shape:
        raise UserError(
            f"{checkpoint.directory}: tensor {name!r} has shape {list(tensor.shape)}, "
            f"config.json asks for {list(like.shape)}; fetch the files of one checkpoint"
        )
    return tensor


def _eos_ids(eos: object, directory: Path) -> tuple[int, ...]:
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(token, int) for token in ids):
        raise UserError(
            f"{directory}: eos_token_id in generation_config.json or config.json is {eos!r}; "
            "it must be a token id or a list of them"
        )
    return tuple(ids)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
