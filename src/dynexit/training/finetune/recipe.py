"""How a backbone is fine-tuned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dynexit.errors import UserError
from dynexit.exits.judge import check_layers

ROTATIONAL, GRADUAL, ALL = CURRICULA = ("rotational", "gradual", "all")


@dataclass(frozen=True)
class FinetuneRecipe:
    """``layer_dropout`` is the rate of the last layer, to which it rises from none at the first;
    ``exit_loss`` weighs the losses of earlier layers against the last one's, and ``curriculum``
    says which of them a step reads (``curriculum.exit_weights``), every ``interval``-th at a time
    where it rotates (None: four in a step). ``layers`` are those that are read at all, counted from
    1 (None: all).

    ``lora`` is the rank of the adapters that are trained in place of the weights (0: the weights
    themselves). ``texts`` of at most ``length`` tokens are read, ``batch`` in each of ``steps``;
    ``rate`` is AdamW's, which rises over the first twentieth of the steps and falls to zero.
    ``held_out`` texts are kept apart to measure on. ``recompute`` keeps no activations inside of
    layers, and computes them twice.
    """

    steps: int = 500
    batch: int = 8
    length: int = 512
    rate: float = 1e-4
    layer_dropout: float = 0.1
    exit_loss: float = 1.0
    curriculum: str = ROTATIONAL
    interval: int | None = None
    layers: tuple[int, ...] | None = None
    lora: int = 0
    texts: int = 100_000
    held_out: int = 64
    recompute: bool = False
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "length": 2, "lora": 0, "texts": 2, "held_out": 1}
        for name, minimum in (least | {"save_every": 1}).items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if self.interval is not None and self.interval < 1:
            raise UserError(f"interval is {self.interval}; give at least 1")
        if not 0.0 < self.rate < 1.0:
            raise UserError(f"rate is {self.rate:g}; give a learning rate between 0 and 1")
        if not 0.0 <= self.layer_dropout < 1.0:
            raise UserError(
                f"layer_dropout is {self.layer_dropout:g}; give a rate from 0 to below 1"
            )
        if not self.exit_loss >= 0.0:
            raise UserError(f"exit_loss is {self.exit_loss:g}; give a weight of at least 0")
        if self.curriculum not in CURRICULA:
            raise UserError(f"curriculum {self.curriculum!r} is not known; choose from {CURRICULA}")

    def check_depth(self, depth: int) -> None:
        """Raise ``UserError`` unless a model of ``depth`` layers can be read at ``layers``."""
        if self.layers is None:
            return
        if check_layers(self.layers, depth)[0] == 1:
            raise UserError("layers has 1, which has no weight in this loss; give layers from 2 on")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
