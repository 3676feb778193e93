"""What the training-free judges share: layers, a device, and mostly no memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynexit.exits.judge import JudgeState
from dynexit.exits.judges.trained import Options
from dynexit.models.placement import Placement


class UntrainedJudge:
    """A judge without parameters that reads out the vocabulary and forgets each token at once.

    Its work beside the readout is no matrix product, so ``flops`` is 0 unless a subclass counts.
    """

    kind = ""
    options: Options

    def __init__(
        self, layers: Sequence[int], hidden: int, device: torch.device | str = "cpu"
    ) -> None:
        self.layers = tuple(layers)
        self.options = {}
        self.hidden = hidden
        self.device = torch.device(device)

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        """The prompt says nothing to a judge that looks at one token alone."""

    def flops(self, exit: int) -> int:
        return 0

    def weight_bytes(self, exit: int) -> int:
        return 0

    def needs_logits(self) -> bool:
        return True


def put(tensor: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Write ``values`` [B, ...] into the rows of a state's tensor (None: all of them)."""
    if rows is None:
        tensor.copy_(values)
    else:
        tensor[rows] = values.to(tensor.dtype)
