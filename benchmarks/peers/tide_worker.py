"""TIDE (tide-inference) as a worker.

Options: ``layer`` (the exit, from 1) and ``threshold``. Its router at that layer has zero weights,
so that its score is 1/2 for every token, and all leave or none does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hugging_face import load_model, new_ids, timed, weight_bytes
from protocol import PROMPT, Decoded, Loaded, Prepared, serve
from TIDE import TIDE, TIDEConfig
from TIDE.router import RouterCheckpoint, TokenRouter
from transformers import PreTrainedModel


def load(weights: Path, threads: int) -> Loaded:
    model = load_model(weights, threads)

    def prepare(options: Mapping[str, Any]) -> Prepared:
        chosen = engine(model, options["layer"], options["threshold"])
        return Prepared(weight_bytes(model), partial(decode, model, chosen))  # it runs every layer

    return Loaded(version("tide-inference"), prepare)


def engine(model: PreTrainedModel, layer: int, threshold: float) -> TIDE:
    """TIDE with one router, after ``layer`` layers."""
    router = TokenRouter(model.config.hidden_size)
    for parameter in router.parameters():
        torch.nn.init.zeros_(parameter)
    with TemporaryDirectory() as folder:
        path = Path(folder, "router.pt")
        RouterCheckpoint({layer - 1: router}, model.config.hidden_size, 128).save(path)
        return TIDE(model, path, TIDEConfig(exit_threshold=threshold, min_layers=0))


@torch.inference_mode()
def decode(model: PreTrainedModel, engine: TIDE, tokens: int) -> Decoded:
    def generate() -> list[int]:
        text = engine.generate(torch.tensor([PROMPT]), max_new_tokens=tokens, temperature=0.0)
        return new_ids(text, len(PROMPT))

    return timed(model, generate)


if __name__ == "__main__":
    serve(load)
