"""The measured model: by name, by shape, and what is beyond the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.evaluation.bench import capacity, subject
from dynexit.evaluation.bench.shapes import SHAPES, shape_config
from dynexit.evaluation.bench.subject import open_model, open_shape
from dynexit.files import read_json, write_json
from dynexit.models.cost import parameters
from dynexit.models.families import parse_config
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized
from evaluation.bench.quick import silent

BILLION = 1e9


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mistral-1b", 1.1),
        ("mistral-7b", 7.25),
        ("mamba2-1b", 1.37),
        ("mamba2-7b", 7.29),
        ("mamba-1b", 1.4),
    ],
)
def test_shapes_have_the_size_of_their_models(name: str, size: float) -> None:
    config = parse_config(shape_config(name))
    assert parameters(config) / BILLION == pytest.approx(size, rel=0.03)
    assert config.dtype == torch.bfloat16
    assert name in SHAPES


def test_a_shape_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {**shape_config("mistral-1b"), "hidden_size": 64, "intermediate_size": 32}
    small = raw | {"num_hidden_layers": 2, "vocab_size": 300}
    monkeypatch.setattr(subject, "shape_config", lambda name: small)
    first = open_shape("mistral-1b", tmp_path / "work", silent)
    assert first.backbone.depth == first.config.depth == 2
    assert first.stored == "bf16"
    assert first.weight_bytes == sum(p.nbytes for p in first.backbone.parameters())
    written = (first.directory / "config.json").stat().st_mtime_ns
    again = open_shape("mistral-1b", tmp_path / "work", silent, torch.float32)
    assert (again.directory / "config.json").stat().st_mtime_ns == written
    assert again.backbone.dtype == torch.float32
    assert (again.stored, again.weight_bytes) == ("fp32", 2 * first.weight_bytes)


def test_a_quantised_model_by_its_own_bytes(tmp_path: Path) -> None:
    plain = make_checkpoint(tmp_path / "plain", "mistral")
    write_quantized(plan_quantization(plain, QuantizationConfig(8)), tmp_path / "int8")
    small = open_model(str(tmp_path / "int8"))
    assert small.stored == "int8"
    assert small.weight_bytes < open_model(str(plain)).weight_bytes


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--shape 'gpt-9' is not known; choose from mistral-1b"):
        open_shape("gpt-9", tmp_path, silent)
    with pytest.raises(UserError, match="no such directory"):
        open_model(str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_beyond_memory_says_how_much_it_needs(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", "mistral")
    raw = read_json(directory / "config.json")
    beyond = {"vocab_size": 1 << 29, "intermediate_size": 1 << 29}
    write_json(directory / "config.json", raw | beyond)
    with pytest.raises(UserError, match=r"model needs 962 GB of memory and .* available"):
        open_model(str(directory))


def test_a_shape_beyond_memory_or_disk_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "available_memory", lambda: 3 << 30)
    with pytest.raises(UserError, match=r"shape mistral-7b needs 14\.8 GB of memory and 3\.22 GB"):
        open_shape("mistral-7b", tmp_path, silent)
    free = capacity.shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda place: free)
    with pytest.raises(UserError, match=r"the checkpoint needs 2\.21 GB and 1 GB are free"):
        open_shape("mistral-1b", tmp_path / "below", silent)
    assert list(tmp_path.iterdir()) == []


def test_available_memory() -> None:
    available = capacity.available_memory()
    assert available is None or 1 << 20 < available < 1 << 50
    assert capacity.fits(1)
