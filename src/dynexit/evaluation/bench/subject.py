"""The model that is measured: a checkpoint of the user's, or a random one of a known shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS, require_disk, require_memory
from dynexit.evaluation.bench.shapes import shape_config
from dynexit.evaluation.counting import Counting
from dynexit.exits.screen import Screen
from dynexit.models.backbone import Backbone
from dynexit.models.config import BackboneConfig
from dynexit.models.cost import parameters
from dynexit.models.families import parse_config
from dynexit.models.hub import resolve_model
from dynexit.models.loading import load_backbone, read_config
from dynexit.models.random_checkpoint import write_checkpoint

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
WORK = Path("dynexit-bench")
SMALL = 100_000_000  # parameters up to which a suite measures everything it can


@dataclass(frozen=True)
class Subject:
    """A checkpoint by its directory; its weights are read when first asked for.

    ``dtype`` is the one to compute in (None: the checkpoint's own), ``stored`` what its matrices
    are in memory: fp32, bf16, fp16, int8 or int4; ``work`` is a folder for big files, ``device``
    where the weights are put.
    """

    name: str
    directory: Path
    config: BackboneConfig
    dtype: torch.dtype | None
    stored: str
    weight_bytes: int
    work: Path = WORK
    device: str = "cpu"

    @cached_property
    def backbone(self) -> Backbone:
        return load_backbone(self.directory, self.dtype, self.device)

    @cached_property
    def screen(self) -> Screen:
        """The screen of judges that read out the vocabulary, with a sixteenth of the channels."""
        return Screen(self.backbone, max(1, self.config.hidden // 16))

    @property
    def small(self) -> bool:
        """Whether everything about it is measured in moments."""
        return parameters(self.config) <= SMALL


def open_model(model: str, dtype: torch.dtype | None = None, work: Path = WORK) -> Subject:
    """The checkpoint that MODEL names. ``UserError`` where it is beyond the memory at hand."""
    directory = resolve_model(model)
    config = read_config(directory)
    size, stored = _loaded_bytes(config, dtype), _dtype_name(config, dtype)
    if config.quantization is not None:  # then most matrices are smaller than their dtype
        size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
        stored = f"int{config.quantization.bits}"
    _require(size, model)
    return Subject(model, directory, config, dtype, stored, size, work)


def open_shape(
    name: str, work: Path, counting: Counting, dtype: torch.dtype | None = None
) -> Subject:
    """A checkpoint of that shape with random bf16 weights in a folder of ``work``, written once."""
    config = parse_config(shape_config(name))
    size = _loaded_bytes(config, dtype)
    _require(size, f"shape {name}")
    directory = shape_directory(name, work, counting)
    return Subject(name, directory, config, dtype, _dtype_name(config, dtype), size, work)


def _dtype_name(config: BackboneConfig, dtype: torch.dtype | None) -> str:
    used = config.dtype if dtype is None else dtype
    return DTYPES.get(used, str(used).removeprefix("torch."))


def shape_directory(name: str, work: Path, counting: Counting) -> Path:
    """Where ``open_shape`` has its checkpoint, written if it is not there; it need not fit in
    memory."""
    raw, directory = shape_config(name), work / name
    if not (directory / "config.json").exists():
        config = parse_config(raw)
        require_disk(_loaded_bytes(config, None), work)
        with counting(f"{name}: writing random weights", config.depth) as tick:
            write_checkpoint(raw, directory, tick)
    return directory


def _loaded_bytes(config: BackboneConfig, dtype: torch.dtype | None) -> int:
    return parameters(config) * (config.dtype if dtype is None else dtype).itemsize


def _require(size: int, what: str) -> None:
    require_memory(
        size + BESIDE_WEIGHTS, what, "choose a smaller model, --dtype bf16, or a quantised one"
    )
