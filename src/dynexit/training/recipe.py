"""How exits are trained: everything that decides the result, saved beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dynexit.errors import UserError
from dynexit.exits.judge import check_layers, default_layers


@dataclass(frozen=True)
class ExitRecipe:
    """``layers`` None means ``default_layers``; ``top_k`` is how far down in the full model's
    ranking an exit's top token may stand to count as right (1: it must be the same token).

    ``prompts`` are decoded for at most ``max_new_tokens`` each, up to a text of ``stop``. ``match``
    hides from a later exit what left before, as in decoding. ``precision`` is the share of
    validation tokens that must be right where the default thresholds let them leave, ``state`` the
    policy noted in the exit set (labels are the full model's, as recompute keeps them), ``options``
    the judge's shape. ``batch`` counts sequences, ``rate`` is AdamW's. ``translators`` fits one for
    each readout, ``tuned_lens`` takes them from a file instead (``read_tuned_lens``).
    ``shard_tokens``, ``stored``, ``disk_budget`` and ``subsample`` are the collection's
    (``CollectSettings``).
    """

    judge: str = "mamba"
    layers: tuple[int, ...] | None = None
    top_k: int = 1
    prompts: int = 400
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    epochs: int = 12
    rate: float = 3e-3
    batch: int = 32
    match: bool = True
    precision: float = 0.98
    translators: bool = False
    tuned_lens: str | None = None
    state: str = "recompute"
    seed: int = 0
    shard_tokens: int = 8192
    stored: str = "bf16"
    disk_budget: int | None = None
    subsample: str = "texts"
    options: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"prompts": 2, "max_new_tokens": 1, "epochs": 1, "batch": 1, "shard_tokens": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not 1 <= self.top_k <= 255:
            raise UserError(f"top_k is {self.top_k}; give a rank from 1 to 255")
        if self.translators and self.tuned_lens is not None:
            raise UserError("tuned_lens gives the translators; leave translators out")
        if not 0.0 < self.rate < 1.0:
            raise UserError(f"rate is {self.rate:g}; give a learning rate between 0 and 1")
        if not 0.0 < self.precision <= 1.0:
            raise UserError(f"precision is {self.precision:g}; give a share above 0 and up to 1")

    def exits(self, depth: int) -> tuple[int, ...]:
        """The exit layers in a model of ``depth`` layers."""
        return default_layers(depth) if self.layers is None else check_layers(self.layers, depth)

    @property
    def translated(self) -> bool:
        """Whether a translator stands before each readout."""
        return self.translators or self.tuned_lens is not None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
