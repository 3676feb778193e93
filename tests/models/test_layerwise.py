"""A layer at a time gives the numbers of all layers at once, and leaves no layer in memory."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints import COMMON, SHAPES
from dynexit.models import Backbone, load_backbone
from dynexit.models.layerwise import AllLayers, LayerAccess, OneLayer, bring_in
from dynexit.models.random_checkpoint import write_checkpoint
from models.quantising import quantise
from models.zoo import Checkpoint
from training.tiny import backbone as in_memory

WIDE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4}
IDS = torch.arange(2, 26).view(2, 12) % 90


@torch.inference_mode()  # or the kernels stand aside
def run(backbone: Backbone, access: LayerAccess) -> list[Tensor]:
    """Hidden states of a prompt and of two single tokens, as decoding has them."""
    cache = backbone.new_cache(2, 16)
    found = []
    for start, stop in ((0, 10), (10, 11), (11, 12)):
        place = backbone.place([start] * 2, [stop - start] * 2)
        hidden = backbone.embed(IDS[:, start:stop])
        for index in range(backbone.depth):
            with access.layer(index) as block:
                hidden = block(hidden, cache.states[index], place)
        found.append(hidden)
    return found


def checkpoint_of(directory: Path, kind: str, **more: Any) -> Path:
    write_checkpoint({**SHAPES[kind], **COMMON, "num_hidden_layers": 3, **more}, directory)
    return directory


def check_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_every_family_has_the_numbers_of_all_layers(
    checkpoint: Checkpoint, backbone: Backbone
) -> None:
    on_disk = load_backbone(checkpoint.directory, torch.float32, layers_on_disk=True)
    check_equal(run(on_disk, OneLayer(on_disk)), run(backbone, AllLayers(backbone)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_layers_are_cast_as_loading_does(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    directory = checkpoint_of(tmp_path / "model", kind, dtype="bfloat16")
    whole = load_backbone(directory, dtype)
    on_disk = load_backbone(directory, dtype, layers_on_disk=True)
    expected = run(whole, AllLayers(whole))
    check_equal(run(on_disk, OneLayer(on_disk)), expected)
    assert {p.dtype for p in on_disk.layers.parameters()} == {torch.bfloat16}  # as on disk still
    bring_in(on_disk)
    assert {p.dtype for p in on_disk.parameters()} == {dtype}
    check_equal(run(on_disk, AllLayers(on_disk)), expected)


def test_quantised_layers(tmp_path: Path) -> None:
    source = checkpoint_of(tmp_path / "model", "mistral", hidden_size=128, intermediate_size=256)
    quantise(source, tmp_path / "int4", 4, 32)
    whole = load_backbone(tmp_path / "int4", torch.float32)
    on_disk = load_backbone(tmp_path / "int4", torch.float32, layers_on_disk=True)
    check_equal(run(on_disk, OneLayer(on_disk)), run(whole, AllLayers(whole)))


@torch.inference_mode()
def test_nothing_keeps_a_layer_that_was_cast(tmp_path: Path) -> None:
    """Kernels prepare themselves from the weights; what they keep must go with the layer."""
    directory = checkpoint_of(tmp_path / "model", "mistral", dtype="bfloat16")
    backbone = load_backbone(directory, torch.float32, layers_on_disk=True)
    access, cache = OneLayer(backbone), backbone.new_cache(1, 4)
    kept = []
    for index in range(backbone.depth):
        with access.layer(index) as block:
            place = backbone.place([0], [1])
            block(backbone.embed(IDS[:1, :1]), cache.states[index], place)
            kept += [weakref.ref(parameter) for parameter in block.parameters()]
        del block
    assert len(kept) == len(list(backbone.layers.parameters()))
    assert [reference() for reference in kept] == [None] * len(kept)


@pytest.mark.skipif(sys.platform != "linux", reason="memory of one file is told by Linux alone")
@torch.inference_mode()
def test_at_most_two_layers_are_in_memory(tmp_path: Path) -> None:
    directory = checkpoint_of(tmp_path / "model", "mistral", **WIDE, dtype="bfloat16")
    backbone = load_backbone(directory, layers_on_disk=True)
    access = OneLayer(backbone)
    layer = sum(p.nbytes for p in backbone.layers[0].parameters())
    place = backbone.place([0], [12])
    hidden, most = backbone.embed(IDS[:1]), 0
    for index in range(backbone.depth):
        with access.layer(index) as block:
            hidden = block(hidden, None, place)
            most = max(most, resident(directory) - outside(backbone))
    assert layer <= most <= 2 * layer
    assert resident(directory) - outside(backbone) < layer / 2


def resident(directory: Path) -> int:
    """Bytes of a checkpoint's files that this process has in memory."""
    total, within = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            within = str(directory) in line
        elif within and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def outside(backbone: Backbone) -> int:
    """Bytes of all that is no layer."""
    inner = sum(p.nbytes for p in backbone.layers.parameters())
    return sum(p.nbytes for p in backbone.parameters()) - inner


@torch.inference_mode()
def test_weights_that_no_file_holds_are_left_alone() -> None:
    backbone = in_memory("mistral", hidden=256)
    expected = [parameter.clone() for parameter in backbone.parameters()]
    with OneLayer(backbone).layer(0) as block:
        block(torch.randn(1, 3, 256), None, backbone.place([0], [3]))
    for parameter, before in zip(backbone.parameters(), expected, strict=True):
        assert torch.equal(parameter, before)
