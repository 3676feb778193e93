"""Segments of layers as CUDA graphs: one launch instead of one for every kernel.

Each segment is computed once as it is (which also loads libraries and compiles kernels, things that
cannot be done while recording), is recorded when it is met again, and replayed from then on. All
graphs of a cache share one pool of memory: no graph leaves anything there that another one needs,
as segments read from and write to buffers outside of it, and replays are in order on one stream.
"""

from __future__ import annotations

import torch

from dynexit.inference.segments import SMALLEST_BUCKET, FixedSegments, Segment
from dynexit.models import Backbone, Cache
from dynexit.models.layers import Layers


class GraphSegments(FixedSegments):
    """``FixedSegments`` that records and replays CUDA graphs; not for several threads at once."""

    def __init__(
        self, backbone: Backbone, cache: Cache, smallest_bucket: int = SMALLEST_BUCKET
    ) -> None:
        super().__init__(backbone, cache, smallest_bucket)
        self._stream = torch.cuda.Stream(backbone.device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._memory: dict[Segment, tuple[int, ...]] = {}
        self._graphs: dict[Segment, torch.cuda.CUDAGraph] = {}

    def _execute(self, segment: Segment) -> None:
        memory = self._addresses(segment)
        with torch.cuda.device(self.backbone.device):
            if self._memory.get(segment) != memory:
                if segment in self._memory:  # rows were dropped or added, and all memory is new
                    self._memory, self._graphs = {}, {}
                self._memory[segment] = memory
                self._warm_up(segment)
                return
            if segment not in self._graphs:
                self._graphs[segment] = self._record(segment)
            self._graphs[segment].replay()

    def _warm_up(self, segment: Segment) -> None:
        """Compute the segment on the stream that records, whose workspaces are its own."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._compute(segment)
        current.wait_stream(self._stream)

    def _record(self, segment: Segment) -> torch.cuda.CUDAGraph:
        """Record the segment; nothing is computed by that."""
        graph = torch.cuda.CUDAGraph()
        # other threads may go on allocating while this one records
        mode = "thread_local"
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode):
            self._compute(segment)
        return graph

    def _addresses(self, segment: Segment) -> tuple[int, ...]:
        """Where all is that a recording of the segment would read and write by address."""
        states = self.cache.states[segment.start : segment.stop]
        held = [tensor for state in states if state is not None for tensor in state.tensors()]
        return tuple(tensor.data_ptr() for tensor in (self._hidden, *held))


def segments(backbone: Backbone, cache: Cache) -> Layers:
    """What runs the layers of ``backbone`` on ``cache`` while decoding: graphs on a CUDA device,
    elsewhere the backbone itself."""
    return GraphSegments(backbone, cache) if backbone.device.type == "cuda" else backbone
