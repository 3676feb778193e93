"""What the trained judges share, and those of them that have one small module per exit layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """A judge with weights, in fp32 whatever the backbone's type.

    One that remembers the tokens before sets ``recurrent`` and gives ``logits`` and ``observe``; to
    the others a prompt says nothing. Weights are prepared for single steps by ``new_state`` where
    they have changed, so train before, not between the steps of one text. ``by_exit`` names the
    parameters whose first dimension is the exits; the others serve all exits.
    """

    kind = ""
    recurrent = False
    by_exit: tuple[str, ...] = ()

    def __init__(self, layers: Sequence[int], options: Options) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.options = options
        self._prepared_for: object = None

    def logits(self, exit: int, hidden: Tensor, place: Placement) -> Tensor:
        """Log odds [B, T] of whole texts [B, T, hidden] at an exit, for training."""
        raise NotImplementedError

    def token_logits(self, hidden: Tensor) -> Tensor:
        """Log odds [exits, N] of tokens that each came to every exit, [exits, N, hidden], for
        training a judge without memory of the tokens before."""
        raise NotImplementedError

    def start_at(self, exit: int, log_odds: float) -> None:
        """Set what is added to an exit's log odds, so that training starts from the share of
        positive labels."""
        raise NotImplementedError

    @torch.inference_mode()
    def new_state(self, rows: int) -> JudgeState:
        now = tuple(map(_state_of, self.parameters()))
        if now != self._prepared_for:
            self.prepare()
            self._prepared_for = now
        return self.fresh(rows)

    def prepare(self) -> None:
        """Compute what single steps need of the weights."""
        raise NotImplementedError

    def fresh(self, rows: int) -> JudgeState:
        """What is remembered before the first token: nothing, unless a judge says otherwise."""
        return JudgeState({})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        """Nothing to remember."""

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        raise NotImplementedError

    def flops(self, exit: int) -> int:
        raise NotImplementedError

    def weight_bytes(self, exit: int) -> int:
        raise NotImplementedError

    def needs_logits(self) -> bool:
        return False

    def take(self, trained: TrainedJudge, exits: Sequence[int]) -> None:
        """Take the weights that a judge of the same kind has for these of its exits."""
        at = list(exits)
        self.load_state_dict(
            {n: t[at] if n in self.by_exit else t for n, t in trained.state_dict().items()}
        )


def _state_of(weight: Tensor) -> object:
    """Equal to what it was before where the weight is the same, in the same place."""
    # a tensor of inference mode has no count of its changes: each time it may be another
    return object() if weight.is_inference() else (weight.data_ptr(), weight._version)


class ClassifierJudge(TrainedJudge):
    """A judge with one ``ExitClassifier`` per exit layer."""

    def __init__(
        self, layers: Sequence[int], options: Options, build: Callable[[], ExitClassifier]
    ) -> None:
        super().__init__(layers, options)
        self._heads = nn.ModuleList(build() for _ in self.layers)
        # a plain list beside it: indexing a ModuleList costs as much as a small matrix product
        self._at: tuple[ExitClassifier, ...] = tuple(self._heads)  # type: ignore[arg-type]
        self._steps: tuple[Step, ...] = ()

    def logits(self, exit: int, hidden: Tensor, place: Placement) -> Tensor:
        return self._at[exit](hidden, place)  # type: ignore[no-any-return]

    def token_logits(self, hidden: Tensor) -> Tensor:
        return torch.stack([head(own) for head, own in zip(self._at, hidden, strict=True)])

    def start_at(self, exit: int, log_odds: float) -> None:
        self._at[exit].start_at(log_odds)

    def prepare(self) -> None:
        self._steps = tuple(head.prepared() for head in self._at)

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        return torch.sigmoid(self._steps[exit](evidence.hidden))

    def flops(self, exit: int) -> int:
        return self._at[exit].flops()

    def weight_bytes(self, exit: int) -> int:
        return self._at[exit].weight_bytes()

    def take(self, trained: TrainedJudge, exits: Sequence[int]) -> None:
        assert isinstance(trained, ClassifierJudge)
        for head, at in zip(self._at, exits, strict=True):
            head.load_state_dict(trained._at[at].state_dict())
