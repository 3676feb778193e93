"""How much memory and disk there is, and the refusal of what would not fit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dynexit.errors import UserError

BESIDE_WEIGHTS = 300_000_000
"""Bytes of a process beside weights and caches: Python, PyTorch and what a step needs."""


def available_memory() -> int | None:
    """Bytes that processes may still take, cached files not counted as taken; None if unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def fits(needed: int) -> bool:
    """Whether so many bytes are available, True where that is unknown."""
    available = available_memory()
    return available is None or needed <= available


def require_memory(needed: int, what: str, cure: str) -> None:
    """Raise ``UserError`` where so many bytes are not available: beyond memory a benchmark would
    measure the disk."""
    if not fits(needed):
        have = (available_memory() or 0) / 1e9
        raise UserError(
            f"{what} needs {needed / 1e9:.3g} GB of memory and {have:.3g} GB are available; {cure}"
        )


def require_disk(needed: int, folder: Path) -> None:
    """Raise ``UserError`` where ``folder`` (which need not be there yet) has not so many bytes."""
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder}: the checkpoint needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are "
            "free; give another folder with --work"
        )
