"""Writing a trained reference model as a Hugging Face checkpoint in bf16."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from dynexit.files import atomic_directory, write_json
from dynexit.models.backbone import Backbone
from dynexit.models.weights import sources
from dynexit.reference.recipe.shapes import CONFIGS


def export(backbone: Backbone, model: str, tokenizer: Path, out: Path) -> None:
    """Write config, weights, generation settings and tokenizer into ``out``."""
    parameters = dict(backbone.named_parameters())
    names = sources(backbone.config, iter(parameters))
    tensors = {
        names[n].names[0]: p.detach().to(torch.bfloat16).contiguous() for n, p in parameters.items()
    }
    with atomic_directory(out) as directory:
        weights = directory / "model.safetensors"
        save_file(tensors, weights, metadata={"format": "pt"})
        weights.chmod(0o644)  # safetensors writes for the owner alone
        write_json(directory / "config.json", CONFIGS[model](backbone.config.vocab))
        settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        write_json(directory / "generation_config.json", settings)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer.parent / name, directory / name)
