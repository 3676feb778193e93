"""economize's CALM as a worker, and its drafts by an early exit.

Options of CALM: ``confidence`` (``state`` or ``softmax``), ``threshold`` and ``min_layer``. At a
threshold of 1 no token ever leaves; at 0 every token leaves at ``min_layer``. Options of drafts:
``drafts_at`` (a layer) and ``cycle``, of so many tokens that one is the full model's; cycles of 1
are plain decoding. One set of weights serves all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import economize
import torch
from economize.techniques.dynamic_depth import CalmConfig
from economize.techniques.early_exit import EarlyExitConfig
from hugging_face import load_model, new_ids, parameter_bytes, sharing, timed, weight_bytes
from protocol import PROMPT, Decoded, Loaded, Prepared, serve
from transformers import PreTrainedModel


def load(weights: Path, threads: int) -> Loaded:
    model = load_model(weights, threads)

    def prepare(options: Mapping[str, Any]) -> Prepared:
        base = sharing(model)
        if (layer := options.get("drafts_at")) is not None:
            early = economize.apply(base, EarlyExitConfig(layer, head="shared"))
            cycles = economize.DecodeConfig(cycle_length=options["cycle"])
            return Prepared(None, partial(decode_with_drafts, base, early, cycles))
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


@torch.inference_mode()
def decode_with_drafts(
    base: PreTrainedModel,
    model: economize.EfficientModel,
    cycles: economize.DecodeConfig,
    tokens: int,
) -> Decoded:
    told: dict[str, int] = {}

    def generate() -> list[int]:
        result = model.decode(torch.tensor(PROMPT), tokens, decoding=cycles)
        told["drafts"] = sum(drafted for drafted, _ in result.acceptance)
        told["accepted"] = sum(accepted for _, accepted in result.acceptance)
        told["cycles"] = len(result.acceptance)
        return new_ids(torch.as_tensor(result.tokens), 0)

    done = timed(base, generate)  # drafts are embedded too, so steps are not tokens
    return Decoded(done.seconds, len(done.ids) - 1, done.ids, told)


if __name__ == "__main__":
    serve(load)
