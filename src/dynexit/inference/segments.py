"""Segments of layers between exits at fixed shapes, as CUDA graphs need them.

A step of decoding feeds one token to each row. Here that step has shapes that repeat: attention
looks at a whole bucket of positions behind a mask, and where the tokens sit is told by tensors
whose memory stays. So one recording of a segment serves every
later step (see ``cuda_graphs``). ``FixedSegments`` computes the same at once, on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dynexit.models import Backbone, BackboneConfig, Cache, Placement
from dynexit.models.attention import Attention
from dynexit.models.rope import RopeTable

MAX_ROWS = 32
SMALLEST_BUCKET = 256  # positions
Tables = dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]]


class StepPlacement(Placement):
    """One token of each row, at positions that are known to the device alone.

    ``positions`` [B] and ``cache_rows`` [B] (None: all rows in order) are read when the layers run,
    so they may be other numbers each time; all positions are below ``end``. ``tables`` keeps the
    rotary tables of ``reach`` positions that were used, so that their memory stays as well.
    """

    on_host = False

    def __init__(
        self, positions: Tensor, cache_rows: Tensor | None, end: int, reach: int, tables: Tables
    ) -> None:
        self.starts = self.lengths = ()  # not known to the host: whoever asks must fail
        self.width, self.end, self.device = 1, end, positions.device
        self._at, self._index, self._reach, self._tables = positions, cache_rows, reach, tables
        self._masks, self._rotations = {}, {}

    @property
    def batch(self) -> int:
        return len(self._at)

    @cached_property
    def uniform(self) -> bool:
        return False

    @cached_property
    def padded(self) -> bool:
        return False

    @cached_property
    def rows(self) -> Tensor | None:
        return self._index

    @cached_property
    def positions(self) -> Tensor:
        return self._at[:, None]

    @cached_property
    def scatter(self) -> tuple[Tensor, Tensor]:
        rows = self._index
        return torch.arange(self.batch, device=self.device) if rows is None else rows, self._at

    def _rotation(self, table: RopeTable, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        key = (id(table), dtype)
        if key not in self._tables:
            self._tables[key] = table.upto(self._reach, dtype, self.device)
        cos, sin = self._tables[key]
        return cos[self.positions][:, None], sin[self.positions][:, None]


@dataclass(frozen=True)
class Segment:
    """What can be recorded once: layers ``start`` < l <= ``stop`` run (or, with ``output`` false,
    only their states updated) for ``rows`` tokens of all rows of the cache in order (``whole``) or
    of some of them, at positions below ``end``."""

    start: int
    stop: int
    output: bool
    rows: int
    whole: bool
    end: int


class FixedSegments:
    """Runs the layers of a backbone on one cache; steps of one token a row at fixed shapes.

    It stands where the backbone stood (``models.layers.Layers``). What is no such step, or has more
    than ``MAX_ROWS`` rows, is run by the backbone itself. Rows are not filled up to fewer shapes: a
    row that is there twice would have its state updated twice.
    """

    def __init__(
        self, backbone: Backbone, cache: Cache, smallest_bucket: int = SMALLEST_BUCKET
    ) -> None:
        self.backbone = backbone
        self.cache = cache
        self._reach = min([cache.capacity, *_dynamic_limits(backbone)])
        self._smallest = smallest_bucket
        self._tables: Tables = {}
        self._hidden = torch.empty(0)
        # cache rows and positions of the tokens of a step
        self._where = torch.zeros(2, MAX_ROWS, dtype=torch.long, device=backbone.device)
        self._placed: Placement | None = None

    @property
    def config(self) -> BackboneConfig:
        return self.backbone.config

    @property
    def depth(self) -> int:
        return self.backbone.depth

    def place(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> Placement:
        return self.backbone.place(starts, lengths, rows)

    def run(self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement) -> Tensor:
        if not self._fixed(cache, place):
            return self.backbone.run(hidden, cache, start, stop, place)
        self._execute(self._prepare(hidden, start, stop, place, output=True))
        # a copy, as the buffer is the next segment's too
        return self._hidden[: place.batch].clone()

    def advance(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> None:
        if not self._fixed(cache, place):
            self.backbone.advance(hidden, cache, start, stop, place)
        else:
            self._execute(self._prepare(hidden, start, stop, place, output=False))

    def _fixed(self, cache: Cache, place: Placement) -> bool:
        small = place.width == 1 and place.batch <= MAX_ROWS and place.end <= self._reach
        return small and cache is self.cache

    def _prepare(
        self, hidden: Tensor, start: int, stop: int, place: Placement, *, output: bool
    ) -> Segment:
        """Bring the call into the buffers and say which segment it is."""
        if place is not self._placed:
            self._where.copy_(_filled(place, pin=self._where.is_cuda), non_blocking=True)
            self._placed = place
        if self._hidden.shape[1:] != hidden.shape[1:] or self._hidden.dtype != hidden.dtype:
            with torch.inference_mode(False):  # to be written in and out of that mode
                self._hidden = hidden.new_empty(MAX_ROWS, *hidden.shape[1:])
        self._hidden[: place.batch].copy_(hidden)
        whole, end = place.numbers is None, self._bucket(place.end)
        return Segment(start, stop, output, place.batch, whole, end)

    def _bucket(self, end: int) -> int:
        return min(max(self._smallest, 1 << (end - 1).bit_length()), self._reach)

    def _execute(self, segment: Segment) -> None:
        """Run a segment on what is in the buffers."""
        self._compute(segment)

    def _compute(self, segment: Segment) -> None:
        """The segment's work, from buffers to buffers; nothing of it may wait for the device."""
        rows, positions = self._where[:, : segment.rows]
        index = None if segment.whole else rows
        # a new one each time, as it remembers masks and rotations of the positions it saw
        place = StepPlacement(positions, index, segment.end, self._reach, self._tables)
        hidden = self._hidden[: segment.rows]
        if segment.output:
            run = self.backbone.run(hidden, self.cache, segment.start, segment.stop, place)
            hidden.copy_(run)
        else:
            self.backbone.advance(hidden, self.cache, segment.start, segment.stop, place)


def _filled(place: Placement, *, pin: bool) -> Tensor:
    """Cache rows and positions of a step, [2, MAX_ROWS] with zeros at the end."""
    rows = range(place.batch) if place.numbers is None else place.numbers
    rest = [0] * (MAX_ROWS - place.batch)
    # from pinned memory a copy needs no waiting for the device
    return torch.tensor([[*rows, *rest], [*place.starts, *rest]], pin_memory=pin)


def _dynamic_limits(backbone: Backbone) -> list[int]:
    """Lengths up to which rotary angles do not depend on the length of the text."""
    mixers = [block.mixer for block in backbone.blocks()]
    ropes = [m.rope.rope for m in mixers if isinstance(m, Attention) and m.rope is not None]
    return [rope.max_positions for rope in ropes if rope.kind == "dynamic"]
