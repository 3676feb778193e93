"""Checkpoints under the names, files and configurations in which they were published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynexit.models import load_backbone
from models.zoo import Checkpoint, make_checkpoint, random_ids


def edit_config(directory: Path, *drop: str, **fields: Any) -> None:
    path = directory / "config.json"
    raw = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in raw.items() if k not in drop}))


def rename(directory: Path, file: str, *changes: tuple[str, str]) -> None:
    """Write the tensors of ``model.safetensors`` under other names into ``file``."""
    source = directory / "model.safetensors"
    tensors = {}
    for name, tensor in load_file(source).items():
        for old, new in changes:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        tensors[name] = tensor.clone()
    source.unlink()
    save_file(tensors, directory / file)


def assert_same(checkpoint: Checkpoint, directory: Path) -> None:
    ids = random_ids(1, 12)
    with torch.no_grad():
        ours = load_backbone(directory)(ids)
    torch.testing.assert_close(ours, checkpoint.logits(ids), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize(
    "changes",
    [
        # what transformers writes
        [],
        # mamba-ssm's own
        [("backbone.embeddings.", "backbone.embedding.")],
        # Codestral Mamba's consolidated file: mamba-ssm's under "model."
        [
            ("backbone.embeddings.", "model.backbone.embedding."),
            ("backbone.", "model.backbone."),
            ("lm_head.", "model.lm_head."),
        ],
    ],
    ids=["transformers", "mamba-ssm", "codestral"],
)
@pytest.mark.parametrize("file", ["model.safetensors", "consolidated.safetensors"])
def test_codestral_mamba(changes: list[tuple[str, str]], file: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("mamba2", tmp_path)
    rename(tmp_path, file, *changes)
    assert_same(checkpoint, tmp_path)


def test_nemotron_h_as_first_published(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("nemotron_h", tmp_path)
    rename(
        tmp_path,
        "model.safetensors",
        ("model.embeddings.", "backbone.embedding."),
        ("model.", "backbone."),
    )
    edit_config(tmp_path, "layers_block_type", "layer_types", hybrid_override_pattern="M-*-M")
    assert_same(checkpoint, tmp_path)


def test_granite_with_older_names_of_layer_kinds(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("granitemoehybrid", tmp_path)
    edit_config(tmp_path, layer_types=["mamba", "attention", "mamba"])
    assert_same(checkpoint, tmp_path)


@pytest.mark.parametrize("name", ["llama-linear", "llama-llama3", "llama-yarn", "llama-dynamic"])
def test_older_configurations_of_rotary_scaling(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(name, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    scaling = dict(raw["rope_parameters"])
    theta, kind = scaling.pop("rope_theta"), scaling.pop("rope_type")
    old = {"rope_scaling": {"type": kind, **scaling}, "rope_theta": theta}
    edit_config(tmp_path, "rope_parameters", **old)
    assert_same(checkpoint, tmp_path)


def test_older_configuration_without_scaling(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("llama", tmp_path)
    edit_config(tmp_path, "rope_parameters", rope_scaling=None, rope_theta=5000.0)
    assert_same(checkpoint, tmp_path)


@pytest.mark.parametrize("limit", [[0.0, "Infinity"], None, [0.0, float("inf")]])
def test_infinite_time_steps_in_every_spelling(limit: list[Any] | None, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("mamba2", tmp_path)
    edit_config(tmp_path, time_step_limit=limit)
    assert_same(checkpoint, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("asked", [None, torch.float32, torch.bfloat16])
def test_dtypes(dtype: torch.dtype, asked: torch.dtype | None, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("bamba", tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(path).items()}, path)
    edit_config(tmp_path, "dtype", torch_dtype=str(dtype).removeprefix("torch."))
    backbone = load_backbone(tmp_path, asked)
    assert {p.dtype for p in backbone.parameters()} == {asked or dtype}
    ids = random_ids(1, 12)
    with torch.no_grad():
        logits = backbone(ids)
    assert logits.dtype == (asked or dtype)
    torch.testing.assert_close(logits.float(), checkpoint.logits(ids), atol=0.5, rtol=0.1)
