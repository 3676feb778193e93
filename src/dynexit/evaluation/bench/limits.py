"""What the machine itself can do: reading memory, and multiplying matrices with one vector.

The probes run in the same rounds as the configurations of a suite, so that a share of a limit is
one of the limit at that time.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dynexit.evaluation.bench.matrices import DTYPES, MAKERS, Multiply, biggest_shape
from dynexit.evaluation.bench.rounds import Found
from dynexit.models.config import BackboneConfig

READ_BYTES = 256 << 20  # far beyond the processor's caches
MATRIX_BYTES = 128 << 20
PASSES = 3


@dataclass(frozen=True)
class Probe:
    """A limit. ``by`` is who computes it: PyTorch, or this package's projections."""

    what: str  # "read" or "matvec"
    dtype: str = ""
    by: str = "torch"


class Limits:
    """The probes for a model: its biggest matrix in each dtype, as many copies as the layers have
    bytes, or fewer where that is much more than the processor caches. So a model that fits in
    those caches is compared with what they give."""

    def __init__(self, config: BackboneConfig, weight_bytes: int, read_bytes: int = READ_BYTES):
        self.shape = biggest_shape(config)
        self._matrix_bytes = min(MATRIX_BYTES, weight_bytes)
        self._read_bytes = read_bytes
        self._bytes: dict[Probe, int] = {}

    def runs(self) -> dict[Hashable, Callable[[], float]]:
        """Every probe that this machine and version of PyTorch have; a run gives seconds a pass."""
        runs: dict[Hashable, Callable[[], float]] = {Probe("read"): self._read_once}
        for dtype in DTYPES:
            for by, make in MAKERS.items():
                if (multiply := make(dtype, self.shape, self._matrix_bytes)) is not None:
                    probe = Probe("matvec", dtype, by)
                    self._bytes[probe] = multiply.nbytes
                    runs[probe] = _timed(multiply)
        return runs

    def probes(self) -> list[Probe]:
        """Those of ``runs``, once that was called."""
        return [Probe("read"), *self._bytes]

    def bandwidth(self, probe: Probe, found: Found) -> dict[str, float] | None:
        """GB/s of a probe, None where it did not run; the best counts as the machine's limit."""
        samples = found.samples.get(probe)
        if samples is None:
            return None
        size = (self._read_bytes if probe.what == "read" else self._bytes[probe]) / 1e9
        return {
            "median": size / samples.median,
            "low": size / samples.high,
            "high": size / samples.low,
        }

    def describe(self, found: Found) -> dict[str, Any]:
        """The machine as ``--json`` tells it: medians in GB/s."""
        matvec: dict[str, dict[str, float]] = {}
        for probe in self._bytes:
            if (known := self.bandwidth(probe, found)) is not None:
                matvec.setdefault(probe.dtype, {})[probe.by] = known["median"]
        read = self.bandwidth(Probe("read"), found)
        return {
            **machine(),
            "read_gb_per_s": None if read is None else read["median"],
            "matvec_gb_per_s": matvec,
            "matvec_shape": list(self.shape),
        }

    def best(self, dtype: str, found: Found) -> float | None:
        """GB/s of the faster of all who multiply in that dtype, by their medians."""
        each = [self.bandwidth(p, found) for p in self._bytes if p.dtype == dtype]
        return max((known["median"] for known in each if known is not None), default=None)

    @cached_property
    def _memory(self) -> torch.Tensor:
        return torch.zeros(self._read_bytes // 4)

    def _read_once(self) -> float:
        self._memory.sum()  # the first time, pages are given
        begin = time.perf_counter()
        for _ in range(PASSES):
            self._memory.sum()
        return (time.perf_counter() - begin) / PASSES


def _timed(multiply: Multiply) -> Callable[[], float]:
    @torch.inference_mode()
    def run() -> float:
        multiply()
        begin = time.perf_counter()
        for _ in range(PASSES):
            multiply()
        return (time.perf_counter() - begin) / PASSES

    return run


def machine() -> Mapping[str, Any]:
    """Processor, threads, versions and the date."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def cpu_name() -> str:
    """The processor's name as it gives it, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
