"""Segments of layers as CUDA graphs: one launch instead of one for every kernel.

On a CUDA device they are used unless the environment has ``DYNEXIT_CUDA_GRAPHS=off``.

All graphs of a cache share one pool of memory: no graph leaves anything there that another one
needs, as segments read from and write to buffers outside of it, and replays are in order on one
stream.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable

import torch

from dynexit.inference.segments import SMALLEST_BUCKET, FixedSegments, Segment
from dynexit.models import Backbone, Cache
from dynexit.models.layers import Layers
from dynexit.models.stages import StagedBackbone

SWITCH = "DYNEXIT_CUDA_GRAPHS"
Replay = Callable[[], object]


class RecordedSegments(FixedSegments):
    """``FixedSegments`` that computes a segment once as it is (which also loads libraries and
    compiles kernels, things that cannot be done while recording), records it when it is met again,
    and replays that from then on."""

    def __init__(
        self, backbone: Backbone, cache: Cache, smallest_bucket: int = SMALLEST_BUCKET
    ) -> None:
        super().__init__(backbone, cache, smallest_bucket)
        self._memory: dict[Segment, tuple[int, ...]] = {}
        self._replays: dict[Segment, Replay] = {}

    def _execute(self, segment: Segment) -> None:
        memory = self._addresses(segment)
        if self._memory.get(segment) != memory:
            if segment in self._memory:  # rows were dropped or added, and all memory is new
                self._memory, self._replays = {}, {}
            self._memory[segment] = memory
            self._warm_up(segment)
            return
        if segment not in self._replays:
            self._replays[segment] = self._record(segment)
        self._replays[segment]()

    def _addresses(self, segment: Segment) -> tuple[int, ...]:
        """Where all is that a recording of the segment reads and writes by address."""
        states = self.cache.states[segment.start : segment.stop]
        held = [tensor for state in states if state is not None for tensor in state.tensors()]
        return tuple(tensor.data_ptr() for tensor in (self._hidden, *held))

    @abstractmethod
    def _warm_up(self, segment: Segment) -> None:
        """Compute the segment where it will be recorded."""

    @abstractmethod
    def _record(self, segment: Segment) -> Replay:
        """Record the segment without computing it; what is given back computes it."""


class GraphSegments(RecordedSegments):
    """``RecordedSegments`` by CUDA graphs; not for several threads at once."""

    def __init__(
        self, backbone: Backbone, cache: Cache, smallest_bucket: int = SMALLEST_BUCKET
    ) -> None:
        super().__init__(backbone, cache, smallest_bucket)
        self._stream = torch.cuda.Stream(backbone.device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def _execute(self, segment: Segment) -> None:
        with torch.cuda.device(self.backbone.device):
            super()._execute(segment)

    def _warm_up(self, segment: Segment) -> None:
        # on the stream that records, as libraries have a workspace for each stream
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._compute(segment)
        current.wait_stream(self._stream)

    def _record(self, segment: Segment) -> Replay:
        graph = torch.cuda.CUDAGraph()
        # other threads may go on allocating while this one records
        mode = "thread_local"
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode):
            self._compute(segment)
        return graph.replay


def segments(backbone: Backbone, cache: Cache) -> Layers:
    """What runs the layers of ``backbone`` on ``cache`` while decoding: graphs on a CUDA device
    (unless the environment has ``DYNEXIT_CUDA_GRAPHS=off``), elsewhere the backbone itself, as for
    one whose layers are in several processes."""
    wanted = os.environ.get(SWITCH, "on").lower() != "off"
    here = backbone.device.type == "cuda" and not isinstance(backbone, StagedBackbone)
    return GraphSegments(backbone, cache) if wanted and here else backbone
