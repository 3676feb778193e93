"""Quantising in one call, as several tests do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import Quantized, plan_quantization, write_quantized


def quantise(source: Path, out: Path, bits: int, group: int = 128, **more: Any) -> Quantized:
    """Plan and write; ``more`` goes to ``write_quantized``."""
    return write_quantized(plan_quantization(source, QuantizationConfig(bits, group)), out, **more)
