"""Tiny random checkpoints on disk, with a tokenizer whose tokens are bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dynexit.files import write_json
from dynexit.models import Backbone
from dynexit.models.families import parse_config
from dynexit.models.weights import sources

CONTEXT = 512
SHAPES: dict[str, dict[str, Any]] = {
    "mistral": {
        "model_type": "mistral",
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": None,
    },
    "mamba2": {
        "model_type": "mamba2",
        "state_size": 8,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "expand": 2,
        "conv_kernel": 4,
        "chunk_size": 32,
        "hidden_act": "silu",
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "residual_in_fp32": True,
    },
}
COMMON = {"vocab_size": 256, "hidden_size": 32, "tie_word_embeddings": False, "dtype": "float32"}


def byte_tokenizer(path: Path) -> None:
    """Write a ``tokenizer.json`` of 256 tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))


def make_checkpoint(directory: Path, kind: str, depth: int = 4, seed: int = 0) -> Path:
    """A random checkpoint of a kind in ``SHAPES``; gives its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = {**SHAPES[kind], **COMMON, "num_hidden_layers": depth}
    torch.manual_seed(seed)
    backbone = Backbone(parse_config(raw))
    parameters = dict(backbone.named_parameters())
    names = sources(backbone.config, iter(parameters))
    for parameter in parameters.values():
        if parameter.dim() == 2:  # so that layers change what is said
            parameter.data.mul_(2.0)
    tensors = {names[n].names[0]: p.detach().contiguous() for n, p in parameters.items()}
    save_file(tensors, directory / "model.safetensors")
    write_json(directory / "config.json", raw)
    byte_tokenizer(directory / "tokenizer.json")
    return directory
