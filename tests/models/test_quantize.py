"""Quantising checkpoints of several families: what is written computes what it should."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dynexit.errors import UserError
from dynexit.exits.fingerprint import fingerprint
from dynexit.models import Backbone, load_backbone, read_config
from dynexit.models.checkpoint import INDEX, SINGLE, Checkpoint
from dynexit.models.cost import advance_cost, layer_cost, readout_cost
from dynexit.models.mamba2 import Mamba2
from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import Quantized, plan_quantization, write_quantized
from dynexit.models.quantized import QuantizedProjection
from dynexit.models.shards import refuse_full_disk
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


def quantise(source: Path, out: Path, bits: int, group: int = 128, **more: Any) -> Quantized:
    return write_quantized(plan_quantization(source, QuantizationConfig(bits, group)), out, **more)


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


class TestWriting:
    @pytest.mark.slow
    def test_memory_holds_a_tensor_and_a_shard(self, tmp_path: Path) -> None:
        """A checkpoint of 136 MB in 4 shards, in a process of its own."""
        source = _large(tmp_path / "source")
        size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
        assert size > 130 << 20
        work = (
            "import resource, sys; from pathlib import Path\n"
            "from dynexit.models.quantization import QuantizationConfig\n"
            "from dynexit.models.quantize import plan_quantization, write_quantized\n"
            "source, out = map(Path, sys.argv[1:])\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10\n"
            "before = peak()\n"
            "plan = plan_quantization(source, QuantizationConfig(8))\n"
            "write_quantized(plan, out, shard_bytes=16 << 20)\n"
            "print(peak() - before)\n"
        )
        command = [sys.executable, "-c", work, str(source), str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # 8 MB of source, 24 MB of output, and what rounding a block takes
        assert int(done.stdout) < 64 << 20
        shutil.rmtree(tmp_path / "source")

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
    def test_stopped_half_way_leaves_nothing(
        self, stop: type[BaseException], mistral: Path, tmp_path: Path
    ) -> None:
        left = [5]

        def tick() -> None:
            left[0] -= 1
            if not left[0]:
                raise stop

        with pytest.raises(stop):
            quantise(mistral, tmp_path / "out", 8, tick=tick, shard_bytes=4000)
        assert not list(tmp_path.iterdir())

    def test_no_room_while_writing(self, mistral: Path, tmp_path: Path) -> None:
        with _files_of_at_most(10_000), pytest.raises(UserError, match=r"cannot write .*out: .*"):
            quantise(mistral, tmp_path / "out", 8)
        assert not list(tmp_path.iterdir())

    def test_no_room_is_told_before(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"takes 1000000000.0 GB and the disk has .* free"):
            refuse_full_disk(tmp_path / "a" / "b", 10**18)
        refuse_full_disk(tmp_path / "a" / "b", 1)

    def test_files_beside_the_weights(self, mistral: Path, tmp_path: Path) -> None:
        source = Path(shutil.copytree(mistral, tmp_path / "source"))
        for name in ("tokenizer.json", "tokenizer_config.json", "LICENSE", "merges.txt", "a.bin"):
            (source / name).write_text("{}")
        quantise(source, tmp_path / "out", 8)
        found = {path.name for path in (tmp_path / "out").iterdir()}
        always = {"config.json", "generation_config.json", SINGLE}
        assert found == always | {
            "tokenizer.json",
            "tokenizer_config.json",
            "LICENSE",
            "merges.txt",
        }
        before = json.loads((source / "config.json").read_text())
        after = json.loads((tmp_path / "out" / "config.json").read_text())
        told = {"quant_method": "dynexit", "bits": 8, "group": 128}
        assert after == before | {"quantization_config": told}
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
        (tmp_path / "plain").touch()
        assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}


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


def _large(directory: Path) -> Path:
    """A Mistral checkpoint of 4 layers and 136 MB, a shard for each."""
    hidden, wide = 1024, 4096
    raw = {
        "model_type": "mistral",
        "vocab_size": 1024,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "dtype": "bfloat16",
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(raw))
    ends = {
        "model.embed_tokens": (1024, hidden),
        "model.norm": (hidden,),
        "lm_head": (1024, hidden),
    }
    square = {f"self_attn.{n}_proj": (hidden, hidden) for n in "qkvo"}
    mlp = {"mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden)}
    norms = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    layer = square | mlp | {"mlp.down_proj": (hidden, wide)} | norms
    where = {}
    for index in range(4):
        shapes = {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
        shapes |= ends if index == 0 else {}
        file = f"model-{index}.safetensors"
        values = {f"{n}.weight": _filled(shape) for n, shape in shapes.items()}
        save_file(values, directory / file)
        where |= dict.fromkeys(values, file)
    (directory / INDEX).write_text(json.dumps({"weight_map": where}))
    return directory


def _filled(shape: tuple[int, ...]) -> torch.Tensor:
    """Rows that are all the same, which takes no time to make."""
    return torch.randn(shape[-1]).to(torch.bfloat16).expand(shape).contiguous()


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
