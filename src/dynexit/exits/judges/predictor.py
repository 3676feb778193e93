"""The predictor: at the first exit it says of every exit whether the token may leave there.

So the layer is chosen once per token, from an early hidden state, and no later exit reads a weight
for its check: there the score is only looked up. With its own threshold for each exit a token
leaves at the first one that is foretold to be safe. That is the bet of routers such as
Mixture-of-Depths (Raposo et al. 2024) and of D-LLM; the network is the ``ffn`` judge's with one
output for each exit, and learns from the same labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.trained import Step, TrainedJudge
from dynexit.exits.judges.unit import for_unit, inverse_rms, unit_product
from dynexit.exits.judges.untrained import put
from dynexit.models.projection import apply


class PredictorJudge(TrainedJudge):
    """``x = rms(h); out(silu(up(x))) + direct(x)`` with h at the first exit, a logit for each exit.

    Trained; looks at the one token alone. ``width`` is that of the bottleneck.
    """

    kind = "predictor"
    by_exit = ("out.weight", "out.bias", "direct.weight")

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        width: int = 128,
    ) -> None:
        super().__init__(layers, {"width": width})
        exits = len(self.layers)
        self.up = nn.Linear(hidden, width)
        self.out = nn.Linear(width, exits)
        self.direct = nn.Linear(hidden, exits, bias=False)
        self._step: Step | None = None
        self.to(device)

    def token_logits(self, hidden: Tensor) -> Tensor:
        x = hidden[0].float()
        x = x * inverse_rms(x)
        wide = F.silu(F.linear(x, self.up.weight, self.up.bias))
        logits = F.linear(wide, self.out.weight, self.out.bias)
        return (logits + F.linear(x, self.direct.weight)).t()

    @torch.no_grad()
    def start_at(self, exit: int, log_odds: float) -> None:
        self.out.bias[exit] = log_odds

    def prepare(self) -> None:
        self._step = self._prepared()

    def fresh(self, rows: int) -> JudgeState:
        """The scores of all exits [rows, exits], as foretold for the present token."""
        return JudgeState({"scores": self.out.bias.new_zeros(rows, len(self.layers))})

    def _prepared(self) -> Step:
        """All exits' log odds [B, exits] of single tokens; one pass over the weights."""
        matrix = for_unit(torch.cat((self.up.weight, self.direct.weight)))
        bias = torch.cat((self.up.bias, self.out.bias))
        width, weight = self.up.out_features, self.out.weight

        def step(hidden: Tensor) -> Tensor:
            x = hidden.float()
            y = unit_product(bias, apply(x, matrix, None), x)
            return F.linear(F.silu(y[:, :width]), weight) + y[:, width:]

        return step

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        scores = state.tensors["scores"]
        if exit > 0:
            return scores[:, exit] if rows is None else scores[rows, exit]
        assert self._step is not None, "new_state comes before score"
        found = torch.sigmoid(self._step(evidence.hidden))
        put(scores, rows, found)
        return found[:, 0]

    def flops(self, exit: int) -> int:
        return 0 if exit else 2 * sum(p.weight.numel() for p in (self.up, self.out, self.direct))

    def weight_bytes(self, exit: int) -> int:
        return 0 if exit else sum(parameter.nbytes for parameter in self.parameters())
