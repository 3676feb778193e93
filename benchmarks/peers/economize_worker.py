"""economize's CALM as a worker.

Options: ``confidence`` (``state`` or ``softmax``), ``threshold`` and ``min_layer``. At a threshold
of 1 no token ever leaves; at 0 every token leaves at ``min_layer``. One set of weights serves all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import economize
import torch
from economize.techniques.dynamic_depth import CalmConfig
from hugging_face import load_model, new_ids, parameter_bytes, sharing, timed, weight_bytes
from protocol import PROMPT, Decoded, Loaded, Prepared, serve
from transformers import PreTrainedModel


def load(weights: Path, threads: int) -> Loaded:
    model = load_model(weights, threads)

    def prepare(options: Mapping[str, Any]) -> Prepared:
        base = sharing(model)
        config = CalmConfig(**options)
        run = partial(decode, base, economize.apply(base, config))
        return Prepared(bytes_read(model, config), run)

    return Loaded(economize.__version__, prepare)


def bytes_read(model: PreTrainedModel, config: CalmConfig) -> int:
    """All weights but the embedding, and of skipped layers only what gives keys and values."""
    total = weight_bytes(model)
    if config.threshold < 1:
        for layer in model.model.layers[config.min_layer :]:
            kept = (layer.self_attn.k_proj, layer.self_attn.v_proj, layer.input_layernorm)
            total -= parameter_bytes(layer) - sum(map(parameter_bytes, kept))
    return total


@torch.inference_mode()
def decode(base: PreTrainedModel, model: economize.EfficientModel, tokens: int) -> Decoded:
    ordinary = economize.DecodeConfig(cycle_length=1)

    def generate() -> list[int]:
        result = model.decode(torch.tensor(PROMPT), tokens, decoding=ordinary)
        return new_ids(torch.as_tensor(result.tokens), 0)

    return timed(base, generate)


if __name__ == "__main__":
    serve(load)
