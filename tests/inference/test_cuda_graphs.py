"""When segments are recorded and replayed, with a recorder that needs no GPU; the rest: tests/gpu.

As a CUDA graph does, a replay here works on the memory that was there when it was recorded,
whatever the cache holds since.
"""

from __future__ import annotations

import copy

import pytest
import torch

from dynexit.inference.cuda_graphs import RecordedSegments, Replay, segments
from dynexit.inference.segments import Segment
from dynexit.models import Backbone, Cache
from inference.test_decoder import DEPTH, backbone
from inference.test_segments import POLICIES, compare, walk


class OnTheCpu(RecordedSegments):
    """Records by holding on to the tensors of the moment."""

    def __init__(self, backbone: Backbone, cache: Cache, smallest_bucket: int = 8) -> None:
        super().__init__(backbone, cache, smallest_bucket)
        self.warm: list[Segment] = []
        self.recorded: list[Segment] = []
        self.replayed = 0

    def _warm_up(self, segment: Segment) -> None:
        self.warm.append(segment)
        self._compute(segment)

    def _record(self, segment: Segment) -> Replay:
        self.recorded.append(segment)
        held = copy.copy(self)
        held.cache = Cache([copy.copy(s) for s in self.cache.states], self.cache.rows, 0)

        def replay() -> None:
            self.replayed += 1
            held._compute(segment)

        return replay


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("kind", ["attention", "mamba2", "hybrid"])
def test_first_computed_then_recorded_then_replayed(kind: str) -> None:
    model = backbone(kind, torch.float32)
    found = walk(model, OnTheCpu, [None, [1], None, [1], None, [1], [3]], capacity=24)
    kinds = [(s.start, s.rows, s.whole, s.end) for s in found.recorded]
    assert len(set(kinds)) == len(kinds) > 0
    assert set(found.recorded) <= set(found.warm)
    assert found.replayed + len(found.warm) == 14


@pytest.mark.parametrize(("kind", "state"), POLICIES)
def test_rows_that_end_make_recordings_void(kind: str, state: str) -> None:
    script = [[1, 3, DEPTH], [DEPTH, 1, 1], [1, DEPTH, 3], [3, 3, 1], [DEPTH, 1, DEPTH]] * 3
    assert compare(backbone(kind), state, OnTheCpu, [4, 2, 7], script).replayed > 0


def test_replays_after_the_memory_moved_are_not_the_old_ones() -> None:
    model = backbone("attention")
    cache, plain = model.new_cache(2, 16), model.new_cache(2, 16)
    recorded = OnTheCpu(model, cache, 16)
    hidden = model.embed(torch.tensor([[3], [4]]))
    for position in range(8):
        if position == 4:
            cache.keep([1, 0])
            plain.keep([1, 0])
        place = model.place([position] * 2, [1] * 2)
        expected = model.run(hidden, plain, 0, DEPTH, place)
        torch.testing.assert_close(recorded.run(hidden, cache, 0, DEPTH, place), expected)
    assert len(recorded.warm) == len(recorded.recorded) == 2
    assert recorded.replayed == 6


def test_on_a_cpu_the_backbone_runs_its_layers() -> None:
    model = backbone("attention")
    assert segments(model, model.new_cache(1, 8)) is model
