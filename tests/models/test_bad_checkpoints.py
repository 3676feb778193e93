"""Every fault of a checkpoint is told in one line that names the file or field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynexit.errors import UserError
from dynexit.models import load_backbone, read_config
from dynexit.models.checkpoint import INDEX, SINGLE
from models.zoo import make_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint in one file."""
    return make_checkpoint("llama-llama3", tmp_path_factory.mktemp("whole")).directory


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint in several files."""
    directory = tmp_path_factory.mktemp("sharded")
    return make_checkpoint("mistral", directory, max_shard_size="30KB").directory


@pytest.fixture
def single(whole: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint in one file, to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "single"))


@pytest.fixture
def shards(sharded: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint in several files, to be broken."""
    return Path(shutil.copytree(sharded, tmp_path / "shards"))


def fault(directory: Path) -> str:
    """What loading says, checked to be one line."""
    with pytest.raises(UserError) as caught:
        load_backbone(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert 20 < len(message) < 400
    return message


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(directory / SINGLE)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, directory / SINGLE)


def test_missing_shard(shards: Path) -> None:
    lost = sorted(shards.glob("*.safetensors"))[1]
    lost.unlink()
    assert f"shard {lost.name} is missing" in fault(shards)


def test_truncated_shard(shards: Path) -> None:
    cut = sorted(shards.glob("*.safetensors"))[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    assert str(cut) in fault(shards)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 64, b"version https://git-lfs.github"])
def test_file_that_is_no_safetensors(content: bytes, single: Path) -> None:
    (single / SINGLE).write_bytes(content)
    assert SINGLE in fault(single)


@pytest.mark.parametrize("field", [{"weight_map": {}}, {"weight_map": None}, {"weight_map": []}])
def test_index_without_weight_map(field: dict[str, Any], shards: Path) -> None:
    edit(shards / INDEX, **field)
    assert "'weight_map' is missing or empty" in fault(shards)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", 3, None])
def test_index_that_points_elsewhere(name: Any, shards: Path) -> None:
    edit(shards / INDEX, weight_map={"lm_head.weight": name})
    assert "no name of a shard" in fault(shards)


def test_index_that_is_no_json(shards: Path) -> None:
    (shards / INDEX).write_text("{")
    assert INDEX in fault(shards)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt"])
def test_pickled_weights_only(name: str, single: Path) -> None:
    (single / SINGLE).rename(single / name)
    assert "convert it to safetensors" in fault(single)


def test_no_weights_at_all(single: Path) -> None:
    (single / SINGLE).unlink()
    assert f"expected {SINGLE}" in fault(single)


def test_missing_tensor(single: Path) -> None:
    edit_tensors(single, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "'model.layers.1.mlp.up_proj.weight' is missing" in fault(single)


def test_missing_head(single: Path) -> None:
    edit_tensors(single, lambda tensors: tensors.pop("lm_head.weight"))
    message = fault(single)
    assert "'lm_head.weight' is missing" in message
    assert "tie_word_embeddings" in message


def test_tensor_of_wrong_shape(single: Path) -> None:
    name = "model.layers.2.self_attn.k_proj.weight"
    edit_tensors(single, lambda tensors: tensors.update({name: torch.zeros(3, 5)}))
    message = fault(single)
    assert f"{name!r} has shape [3, 5]" in message
    assert "[16, 32]" in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_tensor(dtype: torch.dtype, single: Path) -> None:
    name = "model.layers.2.self_attn.k_proj.weight"
    edit_tensors(single, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    assert f"{name!r} has dtype {dtype}" in fault(single)


def test_quantised_checkpoint(single: Path) -> None:
    edit(single / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised weights are not supported" in fault(single)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model_type": "llama"'])
def test_config_that_is_no_object(content: str, single: Path) -> None:
    (single / "config.json").write_text(content)
    assert "config.json" in fault(single)


def test_directory_without_config(tmp_path: Path) -> None:
    assert "config.json" in fault(tmp_path)


@pytest.mark.parametrize("family", ["gpt2", None, 3, ["llama"]])
def test_unknown_family(family: Any, single: Path) -> None:
    edit(single / "config.json", model_type=family)
    message = fault(single)
    assert f"model_type {family!r} is not supported" in message
    assert "falcon_mamba" in message


@pytest.mark.parametrize(
    "field",
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"],
)
def test_config_without_a_field(field: str, single: Path) -> None:
    raw = json.loads((single / "config.json").read_text())
    raw.pop(field)
    (single / "config.json").write_text(json.dumps(raw))
    assert f"field {field!r} is missing" in fault(single)


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": "wide"},
        {"num_hidden_layers": None},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 0},
        {"hidden_size": -32},
        {"vocab_size": 0},
        {"rms_norm_eps": "small"},
        {"rope_parameters": 3},
        {"rope_parameters": {"rope_type": ["llama3"]}},
        {"num_key_value_heads": 3},
        {"head_dim": 7},
        {"max_position_embeddings": "many"},
    ],
    ids=str,
)
def test_config_with_an_unusable_value(fields: dict[str, Any], single: Path) -> None:
    edit(single / "config.json", **fields)
    assert "config.json" in fault(single)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not supported"),
        ({"rope_parameters": {"rope_type": "linear"}}, "needs the number 'factor'"),
        ({"hidden_act": "swiglu"}, "activation 'swiglu' is not supported"),
        ({"dtype": "int8"}, "dtype 'int8' is not supported"),
        ({"dtype": "float8_e4m3fn"}, "dtype 'float8_e4m3fn' is not supported"),
    ],
    ids=str,
)
def test_unsupported_option(fields: dict[str, Any], said: str, single: Path) -> None:
    edit(single / "config.json", **fields)
    assert said in fault(single)
    with pytest.raises(UserError, match="config"):
        read_config(single)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("granitemoehybrid", {"num_local_experts": 4}, "mixtures of experts"),
        ("jamba", {"num_experts": 16}, "mixtures of experts"),
        ("nemotron_h", {"layers_block_type": ["linear_attention", "moe"]}, "kind 'moe'"),
        ("mamba2", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("mamba2", {"n_groups": 3}, "n_groups"),
        ("mamba2", {"time_step_limit": [0.1]}, "unusable value"),
    ],
)
def test_unsupported_option_of_a_hybrid(
    name: str, fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    make_checkpoint(name, tmp_path)
    edit(tmp_path / "config.json", **fields)
    assert said in fault(tmp_path)
