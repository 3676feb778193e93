"""One line of a comparison: a model, a judge, a state policy, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """``accuracy`` is exact match; ``consistency`` the share of answers equal to the full model's;
    savings are shares of the full model's layers and FLOPs; ``speedup`` is of decoding time.

    ``threshold`` is None where no threshold was safe and every token ran to full depth. The full
    model itself has ``judge`` and ``state`` "none".
    """

    model: str
    judge: str
    state: str
    threshold: float | None
    n: int
    accuracy: float
    consistency: float
    layer_saving: float
    flop_saving: float
    speedup: float
