"""The directory that quantising writes: bounded memory, whole or not there, all its files."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dynexit.errors import UserError
from dynexit.models.checkpoint import INDEX, SINGLE
from dynexit.models.shards import refuse_full_disk
from models.quantising import quantise
from models.zoo import make_checkpoint


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mistral")
    return make_checkpoint("mistral", directory, max_shard_size="20KB").directory


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
