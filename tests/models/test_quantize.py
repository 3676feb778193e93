"""Quantising checkpoints of several families: what is written computes what it should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dynexit.exits.fingerprint import fingerprint
from dynexit.models import Backbone, load_backbone, read_config
from dynexit.models.checkpoint import INDEX, SINGLE, Checkpoint
from dynexit.models.cost import advance_cost, layer_cost, readout_cost
from dynexit.models.mamba2 import Mamba2
from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized
from dynexit.models.quantized import QuantizedProjection
from models.quantising import quantise
from models.zoo import make_checkpoint, random_ids

FAMILIES = (
    "mistral",
    "llama",  # its head is the embedding
    "qwen3-window",
    "mamba-biases",
    "falcon_mamba",
    "mamba2",
    "mamba2-limits",
    "bamba",
    "granitemoehybrid",  # gate and up projection are one tensor
    "nemotron_h-biases",
    "jamba",
)
BITS = pytest.mark.parametrize("bits", [4, 8])


def dequantised(quantised: Backbone, source: Path) -> Backbone:
    """The backbone of ``source`` with the weights that the quantised one stands for."""
    found = load_backbone(source, torch.float32)
    if found.head is None and quantised.head is not None:
        found.head = Projection(found.config.hidden, found.config.vocab, bias=False, device="meta")
    for name, module in quantised.named_modules():
        if isinstance(module, QuantizedProjection):
            weight = module.dequantized(0, module.out_features, torch.float32)
            found.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in several shards."""
    directory = tmp_path_factory.mktemp("source")
    return make_checkpoint(request.param, directory, max_shard_size="20KB").directory


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mistral")
    return make_checkpoint("mistral", directory, max_shard_size="20KB").directory


@BITS
def test_computes_with_the_rounded_weights(bits: int, source: Path, tmp_path: Path) -> None:
    done = quantise(source, tmp_path / "out", bits, shard_bytes=15_000)
    assert (tmp_path / "out" / INDEX).exists()
    found = load_backbone(tmp_path / "out")
    modules = [m for m in found.modules() if isinstance(m, QuantizedProjection)]
    assert sum(map(len, done.errors.values())) in (len(modules), len(modules) - found.depth)
    assert found.config.quantization == QuantizationConfig(bits)
    assert isinstance(found.head, QuantizedProjection)
    ids = random_ids(2, 11)
    with torch.inference_mode():
        expected = dequantised(found, source)(ids)
        torch.testing.assert_close(found(ids), expected, rtol=1e-4, atol=1e-4)
        # and step by step, where other kernels are used
        cache = found.new_cache(2, 11)
        for t in range(11):
            hidden = found.embed(ids[:, t : t + 1])
            hidden = found.run(hidden, cache, 0, found.depth, found.place([t] * 2, [1] * 2))
        torch.testing.assert_close(
            found.readout(hidden)[:, 0], expected[:, -1], rtol=1e-3, atol=1e-3
        )


@BITS
def test_what_is_no_matrix_stays(bits: int, source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "out", bits)
    before, after = Checkpoint(source), Checkpoint(tmp_path / "out")
    rounded = {name.removesuffix("qweight") for name in after.names() if name.endswith("qweight")}
    for name in before.names():
        stem = name.removesuffix("weight")
        if stem in rounded and "embed" not in name:
            assert name not in after
        else:
            assert torch.equal(before.tensor((name,))[1], after.tensor((name,))[1])
    small = ("norm", "conv1d", "embed", "A_log", "dt_bias", "bias", ".D")
    assert not any(part in stem for stem in rounded for part in small)


@BITS
def test_costs_are_the_bytes_that_are_stored(bits: int, source: Path, tmp_path: Path) -> None:
    plan = plan_quantization(source, QuantizationConfig(bits))
    write_quantized(plan, tmp_path / "out")
    config, found = read_config(tmp_path / "out"), load_backbone(tmp_path / "out")
    for index, block in enumerate(found.blocks()):
        stored = sum(p.nbytes for p in block.parameters())
        assert layer_cost(config, index, 5).weight_bytes == stored
        advanced = advance_cost(config, index).weight_bytes
        assert advanced < stored or advanced == stored == 0 or block.mixer is None
        if isinstance(block.mixer, Mamba2) and bits == 8:
            m = block.mixer
            kept = (config.hidden + 4) * m.config.inner  # of the gate
            out = m.out_proj.weight_bytes() + m.D.nbytes + m.norm.weight.nbytes
            biases = [m.in_proj.bias, m.out_proj.bias]
            out += 0 if biases[0] is None else 4 * m.config.inner + biases[1].nbytes
            whole = sum(p.nbytes for p in m.parameters()) + 4 * config.hidden
            assert advanced == whole - kept - out
    assert isinstance(found.head, QuantizedProjection)
    assert readout_cost(config).weight_bytes == found.head.weight_bytes() + found.norm.weight.nbytes
    assert plan.bytes_after == sum(p.nbytes for p in found.parameters())
    files = (tmp_path / "out").glob("*.safetensors")
    assert plan.bytes_after == sum(t.nbytes for path in files for t in load_file(path).values())


def test_weights_stay_mapped(mistral: Path, tmp_path: Path) -> None:
    quantise(mistral, tmp_path / "out", 8)
    backbone = load_backbone(tmp_path / "out")
    file = str(tmp_path / "out" / SINGLE)
    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in maps if file in line]
    for name, parameter in backbone.named_parameters():
        address = parameter.data_ptr()
        assert any(int(a, 16) <= address < int(b, 16) for a, b in spans), name


def test_fingerprints_tell_quantised_models_apart(mistral: Path, tmp_path: Path) -> None:
    for bits, group in ((8, 128), (4, 32)):
        quantise(mistral, tmp_path / str(bits), bits, group)
    directories = (mistral, tmp_path / "8", tmp_path / "4")
    prints = [fingerprint(load_backbone(d)) for d in directories]
    assert len({p.digest for p in prints}) == 3
    assert prints[1] == fingerprint(load_backbone(tmp_path / "8", torch.bfloat16))
    assert len({replace(p, digest="") for p in prints}) == 1


def test_the_same_again_gives_the_same_files(mistral: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        quantise(mistral, tmp_path / name, 4, 32)
    one, two = (load_file(tmp_path / name / SINGLE) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_head_that_fits_no_group_stays_the_embedding(tmp_path: Path) -> None:
    source = make_checkpoint("llama", tmp_path / "source").directory
    raw = json.loads((source / "config.json").read_text())
    tensors = load_file(source / SINGLE)
    # 40 hidden channels: only the matrices with 32 columns, those of o_proj, have groups
    tensors = {n: _widened(n, t) for n, t in tensors.items()}
    save_file(tensors, source / SINGLE)
    raw |= {"hidden_size": 40, "head_dim": 8}
    (source / "config.json").write_text(json.dumps(raw))
    quantise(source, tmp_path / "out", 4)
    found = load_backbone(tmp_path / "out")
    assert found.head is None
    kinds = {n for n, m in found.named_modules() if isinstance(m, QuantizedProjection)}
    assert kinds == {f"layers.{i}.mixer.o_proj" for i in range(3)}
    config = found.config
    assert readout_cost(config).weight_bytes == 4 * config.hidden * (config.vocab + 1)


def _widened(name: str, tensor: torch.Tensor) -> torch.Tensor:
    shape = [40 if size == 32 else size for size in tensor.shape]
    if name.endswith("o_proj.weight"):
        shape[1] = 32
    if name.endswith("q_proj.weight"):
        shape[0] = 32
    return torch.randn(shape)
