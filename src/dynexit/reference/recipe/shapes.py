"""The two shapes of the reference pair, as the ``config.json`` that transformers would write."""

from __future__ import annotations

from typing import Any

CONTEXT = 1024


def mistral_config(vocab: int) -> dict[str, Any]:
    """Mistral architecture: 12 layers, grouped heads, SwiGLU, untied head."""
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": vocab,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "bfloat16",
    }


def mamba2_config(vocab: int) -> dict[str, Any]:
    """Mamba-2 architecture: 24 layers, as Codestral Mamba in small."""
    return {
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        "vocab_size": vocab,
        "hidden_size": 224,
        "state_size": 64,
        "num_hidden_layers": 24,
        "num_heads": 7,
        "head_dim": 64,
        "n_groups": 1,
        "expand": 2,
        "conv_kernel": 4,
        "chunk_size": 64,
        "hidden_act": "silu",
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "residual_in_fp32": True,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "bfloat16",
    }


CONFIGS = {"mistral": mistral_config, "mamba2": mamba2_config}
