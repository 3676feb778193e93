"""What a plan asks for, checked against the model, and what is measured where it asks nothing."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.errors import UserError
from dynexit.exits.skipped import NAMES, skipped_state
from dynexit.models.config import BackboneConfig


def exit_layers(wished: Sequence[int] | None, depth: int, small: bool) -> tuple[int, ...]:
    """Layers to leave after, ``depth`` being full depth: all of them in a small model, a quarter,
    half and three quarters of the depth in a big one, where nothing is wished for."""
    if wished is None:
        wished = range(1, depth) if small else (depth // 4, depth // 2, 3 * depth // 4)
        return tuple(sorted({layer for layer in wished if layer >= 1}))
    wrong = [layer for layer in wished if not 1 <= layer <= depth]
    if wrong or not wished:
        raise UserError(
            f"--layers: layer {wrong[0] if wrong else 'list'} is outside the model; "
            f"give layers from 1 to {depth}"
        )
    return tuple(sorted(set(wished)))


def states_of(wished: Sequence[str] | None, config: BackboneConfig) -> tuple[str, ...]:
    """State policies: those that have a meaning for the model, where none is wished for."""
    if wished is not None:
        for name in wished:
            skipped_state(name).check(config)
        return tuple(dict.fromkeys(wished))
    return tuple(name for name in NAMES if _applies(name, config))


def sizes_upto(
    wished: Sequence[int] | None, default: Sequence[int], limit: int | None, what: str
) -> tuple[int, ...]:
    """Sizes in order, none above ``limit``. Wished ones above it are a ``UserError``; of others,
    the first above it becomes ``limit`` and the rest are left out."""
    if wished is None:
        within = [size for size in default if limit is None or size <= limit]
        if limit is not None and len(within) < len(default):
            within.append(limit)
        return tuple(dict.fromkeys(within))
    wrong = [size for size in wished if limit is not None and size > limit]
    if wrong:
        raise UserError(f"--sizes: {wrong[0]} {what} are too many; this model has room for {limit}")
    return tuple(sorted(set(wished)))


def _applies(name: str, config: BackboneConfig) -> bool:
    try:
        skipped_state(name).check(config)
    except UserError:
        return False
    return True
