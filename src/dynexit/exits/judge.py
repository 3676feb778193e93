"""What a judge is: at an exit layer it looks at a token and says how safe it is to leave there.

One interface serves trained judges, recurrent ones, and those that need no training. A judge has
the list of exit layers it was made for; ``exit`` below is an index into that list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dynexit.errors import UserError
from dynexit.models.placement import Placement


@dataclass
class JudgeState:
    """What a judge remembers, row by row. ``tensors`` all have the rows as first dimension.

    Recurrent judges keep their convolution and SSM state per exit here, ``saturation`` the hidden
    state of the exit before, ``patience`` the last top token and for how long it has been so.
    """

    tensors: dict[str, Tensor]

    def keep(self, rows: Tensor) -> None:
        """Drop every row not listed."""
        for name, tensor in self.tensors.items():
            self.tensors[name] = tensor[rows]

    def put(self, row: int, one: JudgeState) -> None:
        """Give a row the memory of a state of one row."""
        for name, tensor in self.tensors.items():
            tensor[row] = one.tensors[name][0]

    def of(self, row: int) -> JudgeState:
        """A copy of the memory of one row, as a state of one row."""
        return JudgeState(
            {name: tensor[row, None].clone() for name, tensor in self.tensors.items()}
        )


class Evidence:
    """One token of each row at exit number ``exit``.

    ``hidden`` [B, hidden] is the state after the exit layer, ``readout`` gives the logits of states
    [n, hidden] at an exit [n, vocab]. A token whose score is below ``least`` stays whatever its
    score is, so that a judge need not know it exactly. ``readouts`` counts those of each row.
    """

    def __init__(
        self,
        exit: int,
        hidden: Tensor,
        readout: Callable[[int, Tensor], Tensor],
        least: float = 0.0,
    ) -> None:
        self.exit = exit
        self.hidden = hidden
        self.least = least
        self.readouts = [0] * hidden.shape[0]
        self._readout = readout
        self._read: list[int] = []  # the rows of
        self._logits: Tensor | None = None

    def knows(self, rows: Sequence[int]) -> bool:
        """Whether the logits of these rows have been computed."""
        return self._logits is not None and set(rows) <= set(self._read)

    def logits(self, rows: Sequence[int] | None = None) -> Tensor:
        """The logits [n, vocab] of these rows (None: of all), computed at most once."""
        everyone = list(range(self.hidden.shape[0]))
        wanted = everyone if rows is None else list(rows)
        if self._logits is None or not self.knows(wanted):
            hidden = self.hidden if wanted == everyone else self.hidden[wanted]
            self._logits, self._read = self._readout(self.exit, hidden), wanted
            self._count(wanted)
        if wanted == self._read:
            return self._logits
        return self._logits[[self._read.index(row) for row in wanted]]

    def earlier(self, exit: int, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        """The logits [n, vocab] that these rows had at an earlier exit, from their states there."""
        self._count(rows)
        return self._readout(exit, hidden)

    def _count(self, rows: Sequence[int]) -> None:
        for row in rows:
            self.readouts[row] += 1


class Judge(Protocol):
    """Scores in [0, 1]; a token leaves where its score reaches the threshold."""

    @property
    def kind(self) -> str:
        """Name of the kind of judge, as on the command line."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Exit layers, counted from 1, ascending, all below the backbone's depth."""
        ...

    def new_state(self, rows: int) -> JudgeState:
        """The state before the first token."""
        ...

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        """See tokens of the prompt at an exit, [B, T, hidden], without judging them."""
        ...

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        """Scores [B] of one token each; ``rows`` are the state's rows they belong to (None: all).

        Called in order of exits, and only for tokens that got this far.
        """
        ...

    def flops(self, exit: int) -> int:
        """Floating point operations of one check, without the readout."""
        ...

    def weight_bytes(self, exit: int) -> int:
        """Bytes of weights that one check reads, without the readout."""
        ...

    def needs_logits(self) -> bool:
        """Whether a check reads out the vocabulary."""
        ...


def check_layers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Exit layers in order, or ``UserError`` for any outside 1..depth-1."""
    ordered = tuple(sorted(set(layers)))
    wrong = [layer for layer in ordered if not 1 <= layer < depth]
    if wrong or not ordered:
        raise UserError(
            f"exit layer {wrong[0] if wrong else 'list'} is outside the model; "
            f"give layers from 1 to {depth - 1}"
        )
    return ordered


def default_layers(depth: int, count: int = 4, first: float = 0.5) -> tuple[int, ...]:
    """``count`` exits evenly spaced from the share ``first`` of the depth on.

    DYNAMAX exits in the second half of the network; a model trained with early-exit losses, like
    the reference pair, is ready sooner. Fewer exits in a model too shallow for as many.
    """
    begin = max(1, int(depth * first))
    layers = {begin + (depth - begin) * i // count for i in range(count)}
    return tuple(sorted(layer for layer in layers if layer < depth))
