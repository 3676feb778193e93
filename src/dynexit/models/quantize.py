"""Writing the quantised copy of a checkpoint, one tensor at a time.

The copy is a checkpoint as any other: published names, with ``X.weight`` replaced by ``X.qweight``,
``X.scales`` and for 4 bits ``X.zeros``; ``config.json`` says how in ``quantization_config``. Where
the output projection shares the embedding, the copy has a quantised ``lm_head`` of its own and the
embedding as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from dynexit.errors import UserError
from dynexit.files import atomic_directory, read_json
from dynexit.models.checkpoint import Checkpoint, open_shard, shards
from dynexit.models.config import BackboneConfig
from dynexit.models.families import parse_config
from dynexit.models.loading import skeleton, stored_tensors
from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.rounding import round_matrix
from dynexit.models.shards import SHARD_BYTES, ShardWriter, copy_companions, refuse_full_disk
from dynexit.models.weights import sources


@dataclass(frozen=True)
class Item:
    """A tensor of the source: kept as it is, quantised under ``stem`` (its name without
    ``weight``), or for a shared embedding both."""

    shard: Path
    name: str
    shape: tuple[int, ...]
    nbytes: int
    kept: bool
    stem: str | None

    @property
    def kind(self) -> str:
        """What a quantised matrix is in its layer, such as ``q_proj``."""
        assert self.stem is not None
        return self.stem.rstrip(".").rpartition(".")[2]


@dataclass(frozen=True)
class Plan:
    """What becomes of every tensor of a checkpoint; sizes are in bytes."""

    source: Path
    config: QuantizationConfig
    items: tuple[Item, ...]
    own_head: bool

    @property
    def bytes_before(self) -> int:
        return sum(item.nbytes for item in self.items)

    @property
    def bytes_after(self) -> int:
        kept = sum(item.nbytes for item in self.items if item.kept)
        quantised = (i for i in self.items if i.stem is not None)
        return kept + sum(self.config.matrix_bytes(*i.shape) or 0 for i in quantised)


@dataclass
class Quantized:
    """What was done: errors are Frobenius norms of differences over those of the matrices."""

    seconds: float = 0.0
    errors: dict[str, list[float]] = field(default_factory=dict)

    @property
    def mean_errors(self) -> dict[str, float]:
        """Mean relative error of each kind of matrix."""
        return {kind: sum(found) / len(found) for kind, found in self.errors.items()}


def plan_quantization(source: Path, config: QuantizationConfig) -> Plan:
    """Look through a checkpoint directory without reading its weights; ``UserError`` where it is
    quantised already, incomplete, or has nothing to quantise."""
    shape = parse_config(read_json(source / "config.json"))
    if shape.quantization is not None:
        raise UserError(
            f"{source}: its weights have {shape.quantization.bits} bits already; quantise the "
            "checkpoint in bf16, fp16 or fp32 that it was made from"
        )
    stems = _stems(source, shape)
    shared = shape.tied and config.group_of(shape.hidden) is not None
    whole = sources(shape, iter(["embedding.weight", "head.weight"]))
    copies = whole["head.weight"].names if shape.tied else ()  # of the embedding
    items = []
    for path, name, size, nbytes in _tensors(source):
        stem = stems.get(name) if config.group_of(size[-1] if size else 1) is not None else None
        if name in copies:
            continue
        if shared and name in whole["embedding.weight"].names:
            stem = whole["head.weight"].names[0].removesuffix("weight")
        kept = stem is None or name not in stems
        items.append(Item(path, name, size, nbytes, kept, stem))
    if not any(item.stem for item in items):
        raise UserError(
            f"{source}: no matrix has columns that groups of {config.group} or less divide; "
            "use --bits 8"
        )
    return Plan(source, config, tuple(items), shared)


def _stems(source: Path, shape: BackboneConfig) -> dict[str, str]:
    """For every name that a projection's matrix can have, the same without ``weight``."""
    checkpoint = Checkpoint(source)
    backbone = skeleton(shape, checkpoint)
    for _ in stored_tensors(backbone, checkpoint):
        pass  # nothing is missing and all shapes are right
    modules = backbone.named_modules()
    matrices = [f"{name}.weight" for name, m in modules if isinstance(m, Projection)]
    table = sources(shape, iter(matrices))
    return {n: n.removesuffix("weight") for found in table.values() for n in found.names}


def write_quantized(
    plan: Plan, out: Path, tick: Callable[[], None] = lambda: None, shard_bytes: int = SHARD_BYTES
) -> Quantized:
    """Write the directory ``out``, which is whole or not there; ``tick`` is called for each tensor.

    One tensor of the source is in memory at a time, and ``shard_bytes`` of what is to be written
    (and the tensor that goes beyond them).
    """
    begun, result = time.monotonic(), Quantized()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: something is there already; name a new directory")
    refuse_full_disk(out, plan.bytes_after)
    raw = read_json(plan.source / "config.json")
    raw["quantization_config"] = plan.config.to_json()
    if plan.own_head:
        raw["tie_word_embeddings"] = False
    with atomic_directory(out) as directory:
        writer = ShardWriter(directory, out, shard_bytes)
        for item in plan.items:
            for name, tensor in _quantized(item, plan, result):
                writer.add(name, tensor)
            tick()
        writer.finish()
        copy_companions(plan.source, directory, raw)
    result.seconds = time.monotonic() - begun
    return result


def _tensors(source: Path) -> Iterator[tuple[Path, str, tuple[int, ...], int]]:
    """Shard, name, shape and bytes of each tensor, from the mapped files' headers."""
    for path in shards(source):
        with open_shard(path) as shard:
            for name in shard.keys():  # noqa: SIM118
                tensor = shard.get_tensor(name)
                yield path, name, tuple(tensor.shape), tensor.nbytes


def _quantized(item: Item, plan: Plan, result: Quantized) -> Iterator[tuple[str, Tensor]]:
    """What is written for a tensor. The file is mapped anew for each, so that pages of those done
    with are not counted as ours."""
    with open_shard(item.shard) as shard:
        tensor = shard.get_tensor(item.name)
    if item.kept:
        yield item.name, tensor.clone()
    if item.stem is None:
        return
    try:
        rounded = round_matrix(tensor, plan.config)
    except ValueError as error:
        raise UserError(
            f"{item.shard}: tensor {item.name!r}: {error}; fetch the checkpoint again"
        ) from None
    result.errors.setdefault(item.kind, []).append(rounded.error)
    for part, stored in rounded.parts.items():
        yield item.stem + part, stored
