"""What the trained judges share: one small module per exit layer, used in training and decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.models.placement import Placement

Options = dict[str, int]
Step = Callable[[Tensor], Tensor]
"""Hidden states [B, hidden] of one token each -> log odds [B]."""


class ExitClassifier(nn.Module):
    """The module of one exit: hidden states [B, T, hidden] -> log odds [B, T] of leaving safely."""

    def forward(self, hidden: Tensor, place: Placement | None = None) -> Tensor:
        raise NotImplementedError

    def prepared(self) -> Step:
        """The same for single tokens, with all that does not depend on the token computed once."""
        raise NotImplementedError

    def start_at(self, log_odds: float) -> None:
        """Set the output bias, so that training starts from the share of positive labels."""
        raise NotImplementedError

    def flops(self) -> int:
        """Floating point operations of the matrix products of a step."""
        raise NotImplementedError

    def weight_bytes(self) -> int:
        """Bytes of weights that a step reads."""
        return sum(parameter.nbytes for parameter in self.parameters())


class TrainedJudge(nn.Module):
    """A judge with one ``ExitClassifier`` per exit layer, in fp32 whatever the backbone's type.

    A subclass with a memory sets ``recurrent`` and gives its own ``new_state``, ``observe`` and
    ``score``; to the others a prompt says nothing. Weights are prepared for single steps by
    ``new_state``, so train before, not between the steps of one text.
    """

    kind = ""
    recurrent = False

    def __init__(
        self, layers: Sequence[int], options: Options, build: Callable[[], ExitClassifier]
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.options = options
        self._heads = nn.ModuleList(build() for _ in self.layers)
        # a plain list beside it: indexing a ModuleList costs as much as a small matrix product
        self._at: tuple[ExitClassifier, ...] = tuple(self._heads)  # type: ignore[arg-type]
        self._steps: tuple[Step, ...] = ()

    def heads(self) -> Iterable[ExitClassifier]:
        """The modules in order of the exits."""
        return self._at

    def logits(self, exit: int, hidden: Tensor, place: Placement) -> Tensor:
        """Log odds [B, T] of whole sequences [B, T, hidden] at an exit, for training."""
        return self._at[exit](hidden, place)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def new_state(self, rows: int) -> JudgeState:
        self._steps = tuple(head.prepared() for head in self._at)
        return JudgeState({})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        """Nothing to remember."""

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        return torch.sigmoid(self._steps[exit](evidence.hidden))

    def flops(self, exit: int) -> int:
        return self._at[exit].flops()

    def weight_bytes(self, exit: int) -> int:
        return self._at[exit].weight_bytes()

    def needs_logits(self) -> bool:
        return False
