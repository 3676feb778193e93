"""Tiny random models with a tokenizer of one token per letter, for the tests of training."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dynexit.models import Backbone, BackboneConfig, Model
from dynexit.models.config import (
    AttentionConfig,
    LayerConfig,
    Mamba2Config,
    MlpConfig,
    RopeConfig,
)

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz"
BOS, EOS = len(ALPHABET), len(ALPHABET) + 1
VOCAB = len(ALPHABET) + 2


class Letters:
    """A letter is a token; texts begin with BOS."""

    def encode(self, text: str) -> list[int]:
        return [BOS, *(ALPHABET.index(letter) for letter in text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(ALPHABET[i] for i in ids if i < len(ALPHABET))


def backbone(kind: str, seed: int = 0, hidden: int = 32, depth: int = 4) -> Backbone:
    """A random ``mistral`` or ``mamba2`` of a few layers, in fp32."""
    if kind == "mistral":
        rope = RopeConfig(10000.0, 16, 512)
        layer = LayerConfig(AttentionConfig(2, 1, 16, 0.25, rope), MlpConfig(48))
    else:
        layer = LayerConfig(Mamba2Config(4, 16, 8, 1, 4, chunk=8))
    config = BackboneConfig(kind, VOCAB, hidden, (layer,) * depth, 1e-5, tied=False)
    torch.manual_seed(seed)
    model = Backbone(config).eval().requires_grad_(False)
    for parameter in model.parameters():  # so that layers say something
        if parameter.dim() == 2:
            parameter.mul_(2.0)
    return model


def tiny_model(kind: str, seed: int = 0) -> Model:
    return Model(f"tiny-{kind}", Path("."), backbone(kind, seed), Letters(), (EOS,), {})


def prompts_file(path: Path, count: int = 12) -> Path:
    """A file of ``count`` different short prompts."""
    words = [
        f"{ALPHABET[2 + i % 20 :][:5]} {ALPHABET[3 + i % 7 :][: i % 6]}x" for i in range(count)
    ]
    path.write_text("\n".join(words) + "\n")
    return path
