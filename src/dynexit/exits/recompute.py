"""The exact state policy: tokens that left early wait, and catch up with the next deep one.

Depths never rise along a text: when a token goes deeper than those before it, they come along.
So the tokens waiting at one exit are neighbours, those waiting deeper come before them, and each
segment of layers runs once, on the waiting tokens followed by the current one. On a machine bound
by memory that costs little more than the current token alone, since weights are read once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynexit.exits.skipped import SkippedStateSession
from dynexit.models.cache import Cache
from dynexit.models.config import BackboneConfig
from dynexit.models.layers import Layers
from dynexit.models.placement import Placement


class Recompute:
    """States of skipped layers are computed late, and are the full model's.

    ``limit`` bounds the tokens a row may have waiting; beyond it they catch up to the last layer.
    """

    name = "recompute"

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit

    def check(self, config: BackboneConfig) -> None:
        return None

    def session(self, backbone: Layers, cache: Cache) -> SkippedStateSession:
        return RecomputeSession(backbone, cache, self.limit)


class RecomputeSession:
    """Waiting tokens of every row by the layer they have reached."""

    def __init__(self, backbone: Layers, cache: Cache, limit: int) -> None:
        self.backbone = backbone
        self.cache = cache
        self.limit = limit
        # per row: layer -> hidden states [1 or more, hidden] in order of position
        self._waiting: list[dict[int, list[Tensor]]] = [{} for _ in range(cache.rows)]
        # per row: tokens that joined the current one in this step, at its depth
        self._riding: list[list[Tensor]] = [[] for _ in range(cache.rows)]
        self._late = [0] * cache.rows  # how many of each row have not reached the last layer
        self._catch_up = [0] * cache.rows
        # per row: tokens [n, hidden] that reached the last layer when they last did
        self._arrived: list[Tensor | None] = [None] * cache.rows

    def run(self, hidden: Tensor, start: int, stop: int, place: Placement) -> Tensor:
        rows = _rows(place)
        for row in rows:
            self._riding[row] = self._waiting[row].pop(start, []) + self._riding[row]
            if stop == self.backbone.depth:
                self._late[row] = 0
        if not any(self._riding[row] for row in rows):
            return self.backbone.run(hidden, self.cache, start, stop, place)
        return self._run_together(hidden, start, stop, place, rows)

    def leave(self, hidden: Tensor, layer: int, place: Placement) -> None:
        for b, row in enumerate(_rows(place)):
            waiting = self._waiting[row].setdefault(layer, [])
            waiting += [*self._riding[row], hidden[b]]
            self._riding[row] = []
            self._late[row] += 1
            if self._late[row] > self.limit:
                self.flush(row, place.starts[b] + 1)

    def keep(self, rows: Sequence[int]) -> None:
        # copies, since a row may go on as several
        self._waiting = [{at: [*t] for at, t in self._waiting[row].items()} for row in rows]
        self._riding = [[*self._riding[row]] for row in rows]
        self._late = [self._late[row] for row in rows]
        self._catch_up = [self._catch_up[row] for row in rows]
        self._arrived = [self._arrived[row] for row in rows]

    def clear(self, row: int) -> None:
        self._waiting[row], self._riding[row] = {}, []
        self._late[row] = self._catch_up[row] = 0
        self._arrived[row] = None

    def catch_up(self, row: int) -> int:
        count, self._catch_up[row] = self._catch_up[row], 0
        return count

    def arrived(self, row: int) -> Tensor | None:
        """States at the last layer [n, hidden] of earlier tokens that reached it since last asked,
        in order of position."""
        tokens, self._arrived[row] = self._arrived[row], None
        return tokens

    def waiting(self, row: int) -> int:
        """Tokens of a row that have not reached the last layer."""
        return self._late[row]

    def flush(self, row: int, length: int) -> None:
        """Bring every waiting token of a row, ``length`` tokens long, to the last layer."""
        depth, at = self.backbone.depth, sorted(self._waiting[row])
        riding: list[Tensor] = []
        for start, stop in zip(at, [*at, depth][1:], strict=True):
            riding = self._waiting[row].pop(start) + riding
            hidden = torch.cat(riding)
            place = self.backbone.place([length - len(hidden)], [len(hidden)], _subset(row, self))
            hidden = self.backbone.run(hidden[None], self.cache, start, stop, place)[0]
            self._catch_up[row] += len(hidden) * (stop - start)
            riding = [hidden]
        self._arrived[row] = torch.cat(riding) if riding else None
        self._late[row] = 0

    def _run_together(
        self, hidden: Tensor, start: int, stop: int, place: Placement, rows: Sequence[int]
    ) -> Tensor:
        blocks = [torch.cat([*self._riding[row], hidden[b]]) for b, row in enumerate(rows)]
        lengths = [len(block) for block in blocks]
        starts = [end - n + 1 for end, n in zip(place.starts, lengths, strict=True)]
        whole = rows if place.rows is not None else None
        together = self.backbone.place(starts, lengths, whole)
        padded = pad_sequence(blocks, batch_first=True) if len(blocks) > 1 else blocks[0][None]
        out = self.backbone.run(padded, self.cache, start, stop, together)
        for b, row in enumerate(rows):
            riders = lengths[b] - 1
            self._catch_up[row] += riders * (stop - start)
            along = out[b, :riders]
            if stop == self.backbone.depth:
                self._arrived[row] = along if riders else None
            self._riding[row] = [] if stop == self.backbone.depth or not riders else [along]
        if len(blocks) == 1:
            return out[:, -1:]
        return out[torch.arange(len(rows), device=out.device), together.ends - 1].unsqueeze(1)


def _rows(place: Placement) -> Sequence[int]:
    return range(place.batch) if place.numbers is None else place.numbers


def _subset(row: int, session: RecomputeSession) -> list[int] | None:
    return None if session.cache.rows == 1 else [row]
