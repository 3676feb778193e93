"""What a backbone remembers of the tokens it has seen: one state per layer, preallocated.

Attention layers keep keys and values of every position; state-space layers keep the last inputs of
their convolution and their recurrent state, whose size does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.models.trail import Trail


@dataclass
class AttentionState:
    """Keys and values by position, each [rows, kv_heads, capacity, head_dim]."""

    k: Tensor
    v: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.k, self.v)

    def keep(self, rows: Tensor) -> None:
        self.k, self.v = self.k[rows], self.v[rows]


@dataclass
class RecurrentState:
    """Convolution inputs [rows, kernel - 1, channels] and SSM state [rows, ...] in fp32. With a
    ``trail`` the mixer also writes there what is needed to go back (see ``models.trail``)."""

    conv: Tensor
    ssm: Tensor
    trail: Trail | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.conv, self.ssm)

    def keep(self, rows: Tensor) -> None:
        if self.trail is not None:
            raise ValueError("a state with a way back keeps all its rows")
        self.conv, self.ssm = self.conv[rows], self.ssm[rows]

    def of_rows(self, rows: Tensor | None) -> Tensor:
        """The SSM state itself (None: all rows), or a copy of some of its rows."""
        return self.ssm if rows is None else self.ssm[rows]

    def store(self, ssm: Tensor, rows: Tensor | None) -> None:
        """Put back what ``of_rows`` gave and a mixer changed, in place or not."""
        if rows is not None:
            self.ssm[rows] = ssm
        elif ssm is not self.ssm:
            self.ssm.copy_(ssm)


LayerState = AttentionState | RecurrentState


class Cache:
    """One ``LayerState`` per layer (None for a layer without a mixer) for ``rows`` sequences.

    ``capacity`` is the largest number of tokens a sequence may hold. Positions are given by the
    ``Placement`` of each call, so sequences of different lengths share one cache without padding.
    """

    def __init__(self, states: Sequence[LayerState | None], rows: int, capacity: int) -> None:
        self.states = list(states)
        self.rows = rows
        self.capacity = capacity

    def nbytes(self) -> int:
        """Bytes held by all states."""
        return sum(t.nbytes for s in self.states if s is not None for t in s.tensors())

    def recurrent(self) -> list[RecurrentState]:
        """The states of the state-space layers."""
        return [state for state in self.states if isinstance(state, RecurrentState)]

    def clear(self, row: int, length: int) -> None:
        """Make a row, whose text had ``length`` tokens, ready for another text."""
        for state in self.states:
            if isinstance(state, RecurrentState):
                state.conv[row] = 0
                state.ssm[row] = 0
            elif state is not None:  # never seen again, but 0 times what is no number is none
                state.k[row, :, :length] = 0
                state.v[row, :, :length] = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed (finished sequences), in the order given."""
        index = torch.tensor(list(rows), dtype=torch.long)
        for state in self.states:
            if state is not None:
                state.keep(index.to(state.tensors()[0].device))
        self.rows = len(rows)

    def copy_from(self, other: Cache) -> None:
        """Take over the states of a new text in ``other``: the same model's cache, with as many
        rows and no more capacity."""
        for state, source in zip(self.states, other.states, strict=True):
            if isinstance(state, AttentionState) and isinstance(source, AttentionState):
                state.k[:, :, : other.capacity].copy_(source.k)
                state.v[:, :, : other.capacity].copy_(source.v)
            elif isinstance(state, RecurrentState) and isinstance(source, RecurrentState):
                state.conv.copy_(source.conv)
                state.ssm.copy_(source.ssm)

    def snapshot(self) -> list[tuple[Tensor, Tensor] | None]:
        """A copy of the recurrent states. Keys and values need none: see ``truncate``."""
        return [
            (s.conv.clone(), s.ssm.clone()) if isinstance(s, RecurrentState) else None
            for s in self.states
        ]

    def restore(self, snapshot: Sequence[tuple[Tensor, Tensor] | None]) -> None:
        """Put back the recurrent states of a ``snapshot`` of this cache."""
        for state, saved in zip(self.states, snapshot, strict=True):
            if isinstance(state, RecurrentState) and saved is not None:
                state.conv.copy_(saved[0])
                state.ssm.copy_(saved[1])

    def truncate(self, length: int, end: int | None = None) -> None:
        """Forget keys and values at positions >= ``length`` (recurrent states are left alone).

        ``end`` is where the written positions end, which spares clearing the rest (None: unknown).
        """
        for state in self.states:
            if isinstance(state, AttentionState):
                state.k[:, :, length:end].zero_()
                state.v[:, :, length:end].zero_()
