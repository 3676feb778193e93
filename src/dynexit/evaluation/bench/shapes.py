"""Shapes of published models, for checkpoints with random weights.

``mistral-7b`` is Mistral 7B v0.3 and ``mamba2-7b`` Codestral Mamba 7B; ``mamba-1b`` and
``mamba2-1b`` have the layers of Mamba 1.4B and Mamba-2 1.3B; ``mistral-1b`` is an architecture of
the same kind in their size. All have a vocabulary of 32768 and an output projection of their own,
so that a readout costs the same share everywhere.
"""

from __future__ import annotations

from typing import Any

from dynexit.errors import UserError

_COMMON: dict[str, Any] = {
    "vocab_size": 32768,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
_MISTRAL: dict[str, Any] = {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-5,
    "sliding_window": None,
}
_MAMBA: dict[str, Any] = {
    "state_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5,
    "residual_in_fp32": True,
    "use_bias": False,
    "use_conv_bias": True,
}
_MAMBA2: dict[str, Any] = {
    **_MAMBA,
    "model_type": "mamba2",
    "architectures": ["Mamba2ForCausalLM"],
    "head_dim": 64,
}
_SHAPES: dict[str, dict[str, Any]] = {
    "mistral-1b": {
        **_MISTRAL,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
    },
    "mistral-7b": {
        **_MISTRAL,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
    },
    "mamba2-1b": {
        **_MAMBA2,
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_heads": 64,
        "n_groups": 1,
    },
    "mamba2-7b": {
        **_MAMBA2,
        "hidden_size": 4096,
        "num_hidden_layers": 64,
        "num_heads": 128,
        "n_groups": 8,
    },
    "mamba-1b": {
        **_MAMBA,
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 4096,
        "num_hidden_layers": 48,
        "state_size": 16,
        "time_step_rank": 128,
    },
}
SHAPES: tuple[str, ...] = tuple(_SHAPES)


def shape_config(name: str) -> dict[str, Any]:
    """The ``config.json`` of a shape, or ``UserError``."""
    if name not in _SHAPES:
        raise UserError(f"--shape {name!r} is not known; choose from {', '.join(SHAPES)}")
    return {**_COMMON, **_SHAPES[name]}
