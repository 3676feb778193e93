"""A decoder whose tokens that left early can be verified later, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dynexit.exits.judge import JudgeState
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.recompute import Recompute, RecomputeSession
from dynexit.inference.decoder import Decoder
from dynexit.inference.speculative.one_by_one import OneByOne
from dynexit.models import kernels
from dynexit.models.backbone import Backbone
from dynexit.models.cache import RecurrentState
from dynexit.models.layers import Layers


class VerifyingDecoder(Decoder):
    """Rows with tokens that wait at their exits until one runs deep, in the way of ``recompute``.

    What they are at the last layer gives the full model's logits for each of them: ``verified``.
    Between ``begin`` and ``rewind`` or ``commit`` a row can go back to any of its tokens since
    then, ``most_waiting`` at most.
    """

    def __init__(
        self,
        backbone: Backbone,
        rows: int,
        capacity: int,
        policy: ExitPolicy,
        most_waiting: int,
        strict: bool,
    ) -> None:
        self._strict = strict
        waits = replace(policy, state=Recompute(limit=capacity))
        super().__init__(backbone, rows, capacity, waits)
        self.trail_bytes = backbone.leave_trails(self.cache, most_waiting)
        self._marks: list[list[JudgeState]] = [[] for _ in range(rows)]
        self._verified: dict[int, Tensor] = {}

    def _runner(self) -> Layers:
        return OneByOne(self.backbone) if self._strict else self.backbone

    @property
    def _waiting(self) -> RecomputeSession:
        assert isinstance(self._session, RecomputeSession)
        return self._session

    @torch.inference_mode()
    def begin(self, row: int, reached: int) -> None:
        """From here on the row may go back, but not before its last token, which stands and went
        through the first ``reached`` layers: where it is still to come, it is the first to replay.
        """
        for index, state in enumerate(self.cache.states):
            if isinstance(state, RecurrentState) and state.trail is not None:
                state.trail.begin(row, self.lengths[row] - (index >= reached), state)
        self._marks[row] = []

    def mark(self, row: int) -> None:
        """To be called before each token after ``begin``: the judge's memory."""
        self._marks[row].append(self._judging.of(row))

    def verified(self, row: int) -> Tensor:
        """Logits [n, vocab] of all tokens of a row that reached the last layer in the step before,
        or by ``flush``, in order of position."""
        return self._verified.pop(row)

    @torch.inference_mode()
    def flush(self, row: int) -> None:
        """Bring the waiting tokens of a row to the last layer."""
        self._waiting.flush(row, self.lengths[row])
        hidden = self._waiting.arrived(row)
        assert hidden is not None
        self._verified[row] = self._logits(hidden)

    @torch.inference_mode()
    def rewind(self, row: int, length: int, kept: int) -> None:
        """Take a row back to ``length`` tokens, up to the one before mark ``kept`` (from 1)."""
        self.backbone.replay(row, length, self.cache, 1 if self._strict else kernels.MOST_TOKENS)
        self._answered[row] -= self.lengths[row] - length
        self.lengths[row] = length
        self._judging.put(row, self._marks[row][kept - 1])
        self._marks[row] = []

    def commit(self, row: int) -> None:
        """All tokens stand; there is no way back before the next ``begin``."""
        for state in self.cache.recurrent():
            if state.trail is not None:
                state.trail.end(row)
        self._marks[row] = []

    def _read_last(self, hidden: Tensor, rows: list[int]) -> Tensor:
        """One readout for these tokens and those that came along."""
        parts: list[Tensor] = []
        for b, row in enumerate(rows):
            along = self._waiting.arrived(row)
            own = hidden[b : b + 1]
            parts.append(own if along is None else torch.cat([along, own]))
        logits = self._logits(parts[0] if len(parts) == 1 else torch.cat(parts))
        by_row = torch.split(logits, [len(part) for part in parts])
        self._verified = dict(zip(rows, by_row, strict=True))
        return torch.cat([part[-1:] for part in by_row]) if len(by_row) > 1 else by_row[0][-1:]

    def _logits(self, hidden: Tensor) -> Tensor:
        if not self._strict:
            return self.backbone.readout(hidden)
        return torch.cat([self.backbone.readout(one) for one in torch.split(hidden, 1)])

    def keep(self, rows: Sequence[int]) -> None:
        raise NotImplementedError("rows of a verifying decoder are slots: leave them out of step")
