"""Which backbone an exit set belongs to, told in milliseconds even for one of 14 GB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.models import Backbone

_ROWS, _COLUMNS = 4, 64


@dataclass(frozen=True)
class Fingerprint:
    """The shape of a backbone and a digest of some of its weights.

    Weights are compared as bf16, so a checkpoint has one fingerprint in whatever type it is loaded.
    """

    family: str
    depth: int
    hidden: int
    vocab: int
    digest: str

    def difference(self, other: Fingerprint) -> str:
        """In plain words, how this backbone (of an exit set) differs from ``other`` (at hand)."""
        if self._shape() != other._shape():
            return f"made for {self._words()}, but this model has {other._words()}"
        return (
            f"made for other weights of the same shape (digest {self.digest[:8]}, "
            f"this model has {other.digest[:8]})"
        )

    def _shape(self) -> tuple[str, int, int, int]:
        return self.family, self.depth, self.hidden, self.vocab

    def _words(self) -> str:
        return (
            f"{self.depth} {self.family} layers of {self.hidden} channels "
            f"and {self.vocab} vocabulary entries"
        )


def fingerprint(backbone: Backbone) -> Fingerprint:
    """The fingerprint of a backbone; see ``Fingerprint``."""
    c = backbone.config
    digest = hashlib.sha256()
    for tensor in _samples(backbone):
        digest.update(tensor.detach().to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return Fingerprint(c.family, c.depth, c.hidden, c.vocab, digest.hexdigest())


def _samples(backbone: Backbone) -> Iterator[Tensor]:
    """A few rows of the embedding, of the middle layer's tensors and of the final norm."""
    middle = backbone.blocks()[backbone.depth // 2]
    named = sorted(middle.named_parameters())
    for tensor in (backbone.embedding.weight, *(p for _, p in named), backbone.norm.weight):
        flat = tensor.reshape(1, -1) if tensor.dim() == 1 else tensor.flatten(1)
        rows = torch.linspace(0, len(flat) - 1, min(_ROWS, len(flat))).long()
        yield flat[rows.to(flat.device), :_COLUMNS].contiguous()
