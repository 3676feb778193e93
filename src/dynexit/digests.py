"""SHA-256 digests, by which a changed file is told from the one that was written.

They find what a disk, a copy or an editor changed. They prove nothing about who wrote a file: who
can change it can change the digest beside it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def file_digest(path: Path) -> str:
    """SHA-256 of a file of any size, read in pieces; errors of the file system pass."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_digest(content: bytes) -> str:
    """SHA-256 of bytes in memory."""
    return hashlib.sha256(content).hexdigest()


def json_digest(data: Any) -> str:
    """SHA-256 of what JSON holds, whatever its spaces and the order of its keys."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return bytes_digest(canonical.encode("utf-8"))
