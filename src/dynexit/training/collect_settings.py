"""What decides a collection, beside the model and the texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dynexit.errors import UserError
from dynexit.training.division import SUBSAMPLING, TEXTS

STORED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class CollectSettings:
    """``layers`` are the exits. A shard is planned for at most ``shard_tokens`` tokens, which with
    the hidden states of all exits are in memory at once. The model reads at most ``batch_tokens``
    at once, of no more texts than memory should hold the states of. With ``last`` the last layer's
    states are kept too, which translators are fitted to. States are ``stored`` as bf16 or fp16, in
    at most ``disk_budget`` bytes: what is beyond is left out by ``subsample``, whole texts or
    single tokens of them.
    """

    layers: tuple[int, ...]
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    max_prompt_tokens: int = 2048
    shard_tokens: int = 8192
    batch_tokens: int = 4096
    last: bool = False
    stored: str = "bf16"
    disk_budget: int | None = None
    subsample: str = TEXTS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("stored", tuple(STORED)), ("subsample", SUBSAMPLING)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} is {getattr(self, name)!r}; give {' or '.join(known)}")

    @property
    def states(self) -> int:
        """Hidden states of a token."""
        return len(self.layers) + self.last

    def token_bytes(self, hidden: int) -> int:
        """Bytes of a token on disk: its states, and a rank for every exit."""
        return self.states * hidden * 2 + len(self.layers)
