"""Tiny random checkpoints of every family, made by transformers itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 96

_TRANSFORMER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_LLAMA: dict[str, Any] = {"model_type": "llama", **_TRANSFORMER}
_QWEN: dict[str, Any] = {**_TRANSFORMER, "head_dim": 16}
_SSM: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "conv_kernel": 4}
_HYBRID_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "ssm_state_size": 16,
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "n_groups": 2,
    "chunk_size": 8,
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp", "linear_attention"],
}


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, **more}}


FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "sliding_window": None, **_TRANSFORMER},
    "mistral-window": {"model_type": "mistral", "sliding_window": 7, **_TRANSFORMER, "head_dim": 8},
    "llama": {**_LLAMA, **_rope("default"), "tie_word_embeddings": True},
    "llama-biases": {**_LLAMA, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "llama-linear": {**_LLAMA, **_rope("linear", factor=4.0)},
    "llama-dynamic": {**_LLAMA, **_rope("dynamic", factor=2.0), "max_position_embeddings": 40},
    "llama-llama3": {
        **_LLAMA,
        **_rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
    },
    "llama-yarn": {**_LLAMA, **_rope("yarn", factor=4.0, original_max_position_embeddings=32)},
    "qwen2": {"model_type": "qwen2", **_TRANSFORMER, "tie_word_embeddings": True},
    "qwen2-window": {
        "model_type": "qwen2",
        **_TRANSFORMER,
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", **_QWEN},
    "qwen3-window": {
        "model_type": "qwen3",
        **_QWEN,
        "attention_bias": True,
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 2,
    },
    "mamba": {"model_type": "mamba", **_SSM, "state_size": 8, "time_step_rank": 3},
    "mamba-biases": {"model_type": "mamba", **_SSM, "use_bias": True, "use_conv_bias": False},
    "falcon_mamba": {
        "model_type": "falcon_mamba",
        **_SSM,
        "state_size": 8,
        "intermediate_size": 48,
        "tie_word_embeddings": False,
    },
    "mamba2": {
        "model_type": "mamba2",
        **_SSM,
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 8,
        "state_size": 16,
        "chunk_size": 8,
    },
    "mamba2-limits": {
        "model_type": "mamba2",
        **_SSM,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 2,
        "state_size": 16,
        "chunk_size": 8,
        "use_bias": True,
        "use_conv_bias": False,
        "time_step_limit": [0.05, 0.5],
        "residual_in_fp32": False,
        "tie_word_embeddings": True,
    },
    "bamba": {
        "model_type": "bamba",
        **_TRANSFORMER,
        **_HYBRID_MAMBA2,
        "num_hidden_layers": 4,
        "attn_layer_indices": [1, 3],
    },
    "granitemoehybrid": {
        "model_type": "granitemoehybrid",
        **_TRANSFORMER,
        **_HYBRID_MAMBA2,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 48,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
        "position_embedding_type": "nope",
    },
    "granitemoehybrid-rope": {
        "model_type": "granitemoehybrid",
        **_TRANSFORMER,
        **_HYBRID_MAMBA2,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 48,
        "layer_types": ["full_attention", "linear_attention", "full_attention"],
        "attention_multiplier": 0.3,
        "position_embedding_type": "rope",
        "mamba_proj_bias": True,
        "tie_word_embeddings": True,
    },
    "nemotron_h": _NEMOTRON,
    "nemotron_h-biases": {**_NEMOTRON, "use_bias": True, "mlp_bias": True, "n_groups": 8},
    "jamba": {
        "model_type": "jamba",
        **_TRANSFORMER,
        "num_hidden_layers": 4,
        "num_experts": 1,
        "num_experts_per_tok": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk and the model of transformers that wrote it."""

    name: str
    directory: Path
    oracle: Any

    def logits(self, ids: Tensor, **more: Any) -> Tensor:
        """What transformers computes for ``ids`` [B, T]."""
        with torch.no_grad():
            return self.oracle(ids, use_cache=False, **more).logits


def make_oracle(name: str) -> Any:
    """The randomised model of transformers, fp32, in evaluation mode."""
    fields = dict(FAMILIES[name])
    kind = fields.pop("model_type")
    config = AutoConfig.for_model(
        kind, vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0, **fields
    )
    model = AutoModelForCausalLM.from_config(config).float().eval()
    randomise(model, seed=sum(map(ord, name)))
    return model


def make_checkpoint(name: str, directory: Path, **saving: Any) -> Checkpoint:
    """Save the randomised model of ``name``; ``saving`` goes to ``save_pretrained``."""
    oracle = make_oracle(name)
    oracle.save_pretrained(directory, **saving)
    return Checkpoint(name, directory, oracle)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter, norms, biases and decays too, values that no default can pass for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            if name.endswith("A_log"):
                parameter.copy_(draw * 0.7)
            elif name.endswith(("dt_bias", "dt_proj.bias")):
                parameter.copy_(draw * 0.7 - 2.0)
            elif "norm" in name or name.endswith(".D"):
                parameter.copy_(1.0 + 0.3 * draw)
            elif parameter.ndim == 1:
                parameter.copy_(0.2 * draw)
            elif "embed" in name:
                parameter.copy_(draw)
            else:
                parameter.copy_(draw / math.sqrt(parameter.shape[-1]))


def random_ids(rows: int, width: int, seed: int = 0) -> Tensor:
    """Token ids [rows, width], none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (rows, width), generator=generator)
