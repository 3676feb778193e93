"""On a CUDA device every family gives its logits, step by step and with recorded segments too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dynexit.inference.cuda_graphs import GraphSegments, Replay, segments
from dynexit.inference.segments import Segment
from dynexit.models import Backbone, Cache, load_backbone
from inference.test_decoder import DEPTH, backbone
from inference.test_segments import POLICIES, ROWS, compare, walk
from models.zoo import FAMILIES, make_checkpoint, random_ids

DEVICE = "cuda"


class Counted(GraphSegments):
    """Counts recordings."""

    recorded = 0

    def _record(self, segment: Segment) -> Replay:
        self.recorded += 1
        return super()._record(segment)


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(name, tmp_path)
    model = load_backbone(tmp_path, torch.float32, DEVICE)
    ids = random_ids(2, 22)
    logits = model(ids.to(DEVICE), lengths=[22, 13]).cpu()
    expected = checkpoint.logits(ids)
    torch.testing.assert_close(logits[0], expected[0], atol=1e-4, rtol=0.0)
    torch.testing.assert_close(logits[1, :13], expected[1, :13], atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_recorded_steps_are_the_backbones(name: str, tmp_path: Path) -> None:
    """Each kind of step is computed, recorded and replayed, in turns with the others."""
    make_checkpoint(name, tmp_path)
    model = load_backbone(tmp_path, torch.float32, DEVICE)
    found = walk(model, Counted, [*ROWS, *ROWS, *ROWS], capacity=48)
    assert found.recorded > 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mistral-window", "mamba", "mamba2", "jamba"])
def test_half_precision_is_recorded_as_it_is_computed(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    make_checkpoint(name, tmp_path)
    model = load_backbone(tmp_path, dtype, DEVICE)
    caches = [model.new_cache(1, 32) for _ in range(2)]
    recorded = GraphSegments(model, caches[1])
    for position, token in enumerate(random_ids(1, 12)[0].tolist()):
        hidden = model.embed(torch.tensor([[token]], device=DEVICE))
        place = model.place([position], [1])
        expected = model.run(hidden, caches[0], 0, model.depth, place)
        got = recorded.run(hidden, caches[1], 0, model.depth, place)
        torch.testing.assert_close(got, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("kind", "state"), POLICIES)
def test_state_policies_and_rows_that_end(kind: str, state: str) -> None:
    """Memory is new after a row ends, and what was recorded before is not replayed."""
    script = [[1, 3, DEPTH], [DEPTH, 1, 1], [1, DEPTH, 3], [3, 3, 1], [DEPTH, 1, DEPTH]] * 4
    found = compare(backbone(kind).to(DEVICE), state, Counted, [4, 2, 7], script)
    assert found.recorded > 0


def test_waiting_for_the_device_is_not_part_of_a_segment() -> None:
    """A replayed segment runs without one synchronisation."""
    model = backbone("hybrid", torch.float32).to(DEVICE)
    cache = model.new_cache(1, 32)
    recorded = GraphSegments(model, cache)
    hidden = model.embed(torch.tensor([[5]], device=DEVICE))
    for position in range(3):
        if position == 2:
            torch.cuda.set_sync_debug_mode("error")
        try:
            recorded.run(hidden, cache, 0, DEPTH, model.place([position], [1]))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_what_runs_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = backbone("attention")
    cache: Cache = on_cpu.new_cache(1, 8)
    assert isinstance(segments(on_cpu, cache), Backbone)
    on_gpu = backbone("attention").to(DEVICE)
    assert isinstance(segments(on_gpu, on_gpu.new_cache(1, 8)), GraphSegments)
    monkeypatch.setenv("DYNEXIT_CUDA_GRAPHS", "off")
    assert isinstance(segments(on_gpu, on_gpu.new_cache(1, 8)), Backbone)
