"""The depth judge: a Mamba block whose recurrence runs over depth instead of over time.

The exits of one token are its sequence: at an exit the block sees the hidden state there, and
remembers by its convolution and SSM state what the exits before looked like, so that it can tell a
state that has settled from one that still moves. It begins anew with every token, so no prompt is
read, and which tokens left before does not matter. One block serves all exits; as layers write in
different directions, a learned vector of each exit is added to its state, and a number to its log
odds. The mamba judge of DYNAMAX runs over time, with a block for each exit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.mamba import BlockSteps, MambaClassifier, block_shape
from dynexit.exits.judges.trained import TrainedJudge
from dynexit.models.placement import Placement


class DepthJudge(TrainedJudge):
    """Trained; remembers one token's earlier exits. The options are the block's shape."""

    kind = "depth"
    by_exit = ("depth", "offset")

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        heads: int = 2,
        head_dim: int = 32,
        state: int = 16,
        conv_kernel: int = 4,
    ) -> None:
        config, options = block_shape(heads, head_dim, state, conv_kernel)
        super().__init__(layers, options)
        self.classifier = MambaClassifier(hidden, config)
        self.depth = nn.Parameter(torch.zeros(len(self.layers), hidden))
        self.offset = nn.Parameter(torch.zeros(len(self.layers)))
        self._blocks: tuple[BlockSteps, ...] = ()
        self.to(device)

    def token_logits(self, hidden: Tensor) -> Tensor:
        exits, count, _ = hidden.shape
        place = Placement([0] * count, [exits] * count, device=hidden.device)
        over_depth: Tensor = self.classifier(hidden.transpose(0, 1), place, self.depth)
        return (over_depth + self.offset).t()  # from [N, exits]

    @torch.no_grad()
    def start_at(self, exit: int, log_odds: float) -> None:
        self.offset[exit] = log_odds - self.classifier.block.out_proj.bias[0]

    def prepare(self) -> None:
        steps = BlockSteps(self.classifier)
        self._blocks = tuple(steps.shifted(own) for own in self.depth)

    def fresh(self, rows: int) -> JudgeState:
        conv, ssm = self._blocks[0].new_state(rows)
        return JudgeState({"conv": conv, "ssm": ssm})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        conv, ssm = state.tensors["conv"], state.tensors["ssm"]
        if exit == 0:
            for tensor in (conv, ssm):
                tensor[slice(None) if rows is None else rows] = 0.0
        logits = self._blocks[exit](evidence.hidden, conv, ssm, rows)
        return torch.sigmoid(logits + self.offset[exit])

    def flops(self, exit: int) -> int:
        return self.classifier.flops()

    def weight_bytes(self, exit: int) -> int:
        return self.classifier.weight_bytes() + self.depth[exit].nbytes + self.offset[exit].nbytes
