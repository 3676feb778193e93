"""How the matrices of a quantised checkpoint are stored, as its ``config.json`` tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dynexit.errors import UserError

METHOD = "dynexit"
BITS = (4, 8)
GROUPS = (128, 64, 32)
RUN = 128  # columns that are packed together in 64 bytes


@dataclass(frozen=True)
class QuantizationConfig:
    """Weight-only quantisation of every matrix but the embedding.

    With 8 ``bits`` each row has a scale; with 4 each row has a scale and a zero for every
    ``group`` columns.
    """

    bits: int
    group: int = 128

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UserError(f"{self.bits} bits: weights are quantised to 4 or 8 bits; choose one")
        if self.group not in GROUPS:
            raise UserError(f"groups of {self.group}: choose 128, 64 or 32 columns a group")

    def group_of(self, columns: int) -> int | None:
        """Columns that share a scale in a matrix of so many; None where it cannot be quantised."""
        if self.bits == 8:
            return columns
        fitting = (g for g in GROUPS if g <= self.group and columns % g == 0)
        return next(fitting, None)

    def matrix_bytes(self, rows: int, columns: int) -> int | None:
        """Bytes of a quantised matrix; None where it cannot be quantised."""
        group = self.group_of(columns)
        if group is None:
            return None
        if self.bits == 8:
            return rows * (columns + 4)
        return rows * (RUN // 2 * packed_runs(columns) + 4 * (columns // group))

    def to_json(self) -> dict[str, Any]:
        """The field ``quantization_config`` of ``config.json``."""
        return {"quant_method": METHOD, **asdict(self)}


def packed_runs(columns: int) -> int:
    """Runs of 128 columns, the last of which may not be full."""
    return -(-columns // RUN)


def read_quantization(raw: Mapping[str, Any]) -> QuantizationConfig | None:
    """The quantisation that a ``config.json`` tells of, None for plain weights."""
    found = raw.get("quantization_config")
    if not found:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else found
    if method != METHOD:
        raise UserError(
            f"config.json: quantization_config: quantised weights are not supported as {method!r} "
            "makes them; quantise the checkpoint in bf16, fp16 or fp32 with `dynexit quantize`"
        )
    bits, group = found.get("bits"), found.get("group", 128)
    try:
        return QuantizationConfig(bits, group)
    except UserError as error:
        raise UserError(f"config.json: quantization_config: {error}") from None
