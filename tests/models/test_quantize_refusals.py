"""What cannot be quantised or is not whole when quantised is told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynexit.errors import UserError
from dynexit.models import load_backbone
from dynexit.models.checkpoint import SINGLE
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization
from models.quantising import quantise
from models.zoo import make_checkpoint


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mistral")
    return make_checkpoint("mistral", directory, max_shard_size="20KB").directory


class TestRefusals:
    def test_quantised_already(self, mistral: Path, tmp_path: Path) -> None:
        quantise(mistral, tmp_path / "out", 8)
        with pytest.raises(UserError, match="8 bits already"):
            plan_quantization(tmp_path / "out", QuantizationConfig(4))

    @pytest.mark.parametrize(("bits", "group"), [(3, 128), (16, 128), (4, 100), (4, 0), (4, 256)])
    def test_bits_and_groups(self, bits: int, group: int) -> None:
        with pytest.raises(UserError, match="choose"):
            QuantizationConfig(bits, group)

    def test_a_file_in_the_way(self, mistral: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "config.json").write_text("{}")
        for taken in (tmp_path / "out", tmp_path / "out" / "config.json", mistral):
            with pytest.raises(UserError, match=r"--out .* is there already"):
                quantise(mistral, taken, 8)
        assert (tmp_path / "out" / "config.json").read_text() == "{}"

    def test_an_empty_directory_is_filled(self, mistral: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        quantise(mistral, tmp_path / "out", 8)
        assert load_backbone(tmp_path / "out").depth == 3

    def test_nothing_has_groups(self, tmp_path: Path) -> None:
        source = make_checkpoint("llama", tmp_path / "source").directory
        raw = json.loads((source / "config.json").read_text())
        raw |= {"hidden_size": 24, "num_attention_heads": 4, "head_dim": 6, "hidden_act": "silu"}
        (source / "config.json").write_text(json.dumps(raw))
        tensors = load_file(source / SINGLE)
        narrow = {32: 24, 16: 12}
        shapes = {n: [narrow.get(s, s) for s in t.shape] for n, t in tensors.items()}
        save_file({n: torch.randn(shape) for n, shape in shapes.items()}, source / SINGLE)
        with pytest.raises(UserError, match="no matrix has columns that groups of 128"):
            plan_quantization(source, QuantizationConfig(4))

    def test_missing_and_broken_weights(self, mistral: Path, tmp_path: Path) -> None:
        source = Path(shutil.copytree(mistral, tmp_path / "source"))
        shard = next(source.glob("*.safetensors"))
        tensors = load_file(shard)
        name = next(n for n in tensors if n.endswith("proj.weight"))  # of 8 bits all are rounded
        save_file(tensors | {name: tensors[name] * float("nan")}, shard)
        with pytest.raises(UserError, match=f"'{name}': it holds numbers that are not finite"):
            quantise(source, tmp_path / "out", 8)
        assert not (tmp_path / "out").exists()
        save_file({n: t for n, t in tensors.items() if n != name}, shard)
        with pytest.raises(UserError, match=f"'{name}' is missing"):
            plan_quantization(source, QuantizationConfig(8))

    @pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", None])
    def test_other_methods(self, method: str | None, mistral: Path, tmp_path: Path) -> None:
        source = Path(shutil.copytree(mistral, tmp_path / "source"))
        raw = json.loads((source / "config.json").read_text())
        told = {"quantization_config": {"quant_method": method, "bits": 4}}
        (source / "config.json").write_text(json.dumps(raw | told))
        with pytest.raises(UserError, match=r"quantised weights are not supported.*quantize"):
            load_backbone(source)

    @pytest.mark.parametrize(
        "fields", [{"bits": 3}, {"bits": 4, "group": 7}, {}, {"bits": "x"}, {"bits": [4]}]
    )
    def test_nonsense_in_our_own(
        self, fields: dict[str, Any], mistral: Path, tmp_path: Path
    ) -> None:
        source = Path(shutil.copytree(mistral, tmp_path / "source"))
        raw = json.loads((source / "config.json").read_text())
        told = {"quantization_config": {"quant_method": "dynexit", **fields}}
        (source / "config.json").write_text(json.dumps(raw | told))
        with pytest.raises(UserError, match=r"config.json: quantization_config: .*choose"):
            load_backbone(source)

    def test_parts_of_another_checkpoint(self, mistral: Path, tmp_path: Path) -> None:
        quantise(mistral, tmp_path / "out", 4, 32)
        tensors = load_file(tmp_path / "out" / SINGLE)
        name = "model.layers.1.self_attn.q_proj."
        for part, value, what in (
            ("scales", torch.ones(32, 3), r"has shape \[32, 3\]"),
            ("qweight", torch.ones(32, 64, dtype=torch.int8), "has dtype torch.int8"),
            ("zeros", None, "is missing"),
        ):
            changed = {n: t for n, t in tensors.items() if n != name + part}
            changed |= {} if value is None else {name + part: value}
            save_file(changed, tmp_path / "out" / SINGLE)
            with pytest.raises(UserError, match=f"'{name}{part}' {what}"):
                load_backbone(tmp_path / "out")
