"""Loading maps the files: weights in their own dtype are never copied."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from dynexit.models import Backbone, load_backbone
from models.zoo import make_checkpoint

MAPS = Path("/proc/self/maps")


def is_mapped(address: int, directory: Path) -> bool:
    """Whether the address lies in a mapping of a file in ``directory``."""
    for line in MAPS.read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        begin, end = (int(bound, 16) for bound in span.split("-"))
        if begin <= address < end:
            return name.startswith(str(directory.resolve()))
    return False


def mapped(backbone: Backbone, directory: Path) -> dict[str, bool]:
    return {n: is_mapped(p.data_ptr(), directory) for n, p in backbone.named_parameters()}


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["mistral", "mamba2", "granitemoehybrid"])
@pytest.mark.parametrize("size", ["20KB", "1GB"])
def test_weights_are_views_of_the_files(name: str, size: str, tmp_path: Path) -> None:
    make_checkpoint(name, tmp_path, max_shard_size=size)
    assert all(mapped(load_backbone(tmp_path), tmp_path).values())
    assert not any(mapped(load_backbone(tmp_path, torch.float64), tmp_path).values())


def test_loading_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    make_checkpoint("mistral", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    wide = {n: torch.zeros(400_000, 32) for n in ("model.embed_tokens.weight", "lm_head.weight")}
    save_file(tensors | wide, tmp_path / "model.safetensors")  # 100 MB
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 96', '"vocab_size": 400000'))
    before = psutil.Process().memory_info().rss
    backbone = load_backbone(tmp_path)
    grown = psutil.Process().memory_info().rss - before
    assert backbone.embedding.weight.nbytes > 50_000_000
    assert grown < 20_000_000


def test_the_files_are_not_written_to(tmp_path: Path) -> None:
    make_checkpoint("mistral", tmp_path)
    path = tmp_path / "model.safetensors"
    before = path.read_bytes()
    backbone = load_backbone(tmp_path)
    backbone.norm.weight.zero_()  # a private copy of the page, as the mapping is copy-on-write
    del backbone
    assert path.read_bytes() == before
