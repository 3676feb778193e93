"""Random checkpoints: whole, loadable, the same each time, with finite logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import COMMON, SHAPES
from dynexit.errors import UserError
from dynexit.models import load_backbone, random_checkpoint
from dynexit.models.random_checkpoint import write_checkpoint

MAMBA = {
    "model_type": "mamba",
    "state_size": 8,
    "intermediate_size": 64,
    "conv_kernel": 4,
    "time_step_rank": 2,
}


def config(kind: str) -> dict[str, Any]:
    shape = MAMBA if kind == "mamba" else SHAPES[kind]
    return {**shape, **COMMON, "num_hidden_layers": 3, "dtype": "bfloat16"}


@pytest.mark.parametrize("kind", ["mistral", "mamba2", "mamba"])
def test_loads_and_decodes(kind: str, tmp_path: Path) -> None:
    ticks: list[None] = []
    written = write_checkpoint(config(kind), tmp_path / "model", lambda: ticks.append(None))
    assert len(ticks) == 3
    backbone = load_backbone(tmp_path / "model")
    assert sum(p.nbytes for p in backbone.parameters()) == written
    logits = backbone(torch.arange(20)[None])
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()
    assert logits.float().std() > 0.01


def test_shards_and_the_same_weights_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(config("mistral"), tmp_path / "one")
    monkeypatch.setattr(random_checkpoint, "SHARD_BYTES", 10_000)
    write_checkpoint(config("mistral"), tmp_path / "many")
    assert len(list((tmp_path / "one").glob("*.safetensors"))) == 1
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = (dict(load_backbone(tmp_path / n).named_parameters()) for n in ("one", "many"))
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_another_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        write_checkpoint(config("mistral"), tmp_path)
