"""The two models shipped with the package, by name."""

from __future__ import annotations

from pathlib import Path

from dynexit.errors import UserError

NAMES = ("mistral", "mamba2")


def reference_directory(name: str) -> Path:
    """Directory of ``reference:NAME`` inside the package."""
    if name not in NAMES:
        known = " and ".join(f"reference:{n}" for n in NAMES)
        raise UserError(f"reference:{name}: no such reference model; there are {known}")
    return Path(__file__).parent / "weights" / name


def exits_directory(name: str, judge: str) -> Path:
    """Directory of the exit set shipped for a reference model and a kind of judge."""
    return reference_directory(name) / "exits" / judge
