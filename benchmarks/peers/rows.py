"""What the rounds gave, as rows: one for each thing compared, with its ratios to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rounds import Measured

Row = dict[str, Any]
LLAMA = {  # what of llama.cpp has as many bits
    "bf16": ("llama.cpp BF16",),
    "int8": ("llama.cpp Q8_0",),
    "int4": ("llama.cpp Q4_0", "llama.cpp Q4_K"),
}


def rows_of(found: Sequence[Measured]) -> list[Row]:
    """In the order of the systems; a row without a figure has a ``reason`` instead."""
    cases = dict.fromkeys(one.system.case for one in found)
    return [
        row for case in cases for row in _rows([one for one in found if one.system.case == case])
    ]


def _rows(found: Sequence[Measured]) -> list[Row]:
    best: dict[str, Measured] = {}
    for one in found:
        row = one.system.row
        if row not in best or _seconds(one) < _seconds(best[row]):
            best[row] = one
    return [_row(one, best, [o for o in found if o.system.row == row]) for row, one in best.items()]


def _seconds(one: Measured | None) -> float:
    return one.median if one is not None and one.seconds else float("inf")


def _row(one: Measured, best: dict[str, Measured], candidates: Sequence[Measured]) -> Row:
    system = one.system
    row: Row = {
        "row": system.row,
        "case": system.case or None,
        "peer": system.peer,
        "weights": system.weights,
        "exit_layer": system.layer,
    }
    if not one.seconds:
        reasons = {o.system.candidate: o.reason for o in candidates if o.reason}
        return row | {"reason": "; ".join(dict.fromkeys(reasons.values())) or "not run"}
    seconds = one.median
    llama = min((best.get(name) for name in _equals(one)), key=_seconds, default=None)
    return row | {
        "seconds_per_token": seconds,
        "low": min(one.seconds),
        "high": max(one.seconds),
        "tokens_per_second": 1 / seconds,
        "speed_against_transformers": _ratio(best.get("transformers"), seconds),
        "speed_against_llama_cpp": _ratio(llama, seconds),
        "speedup": _ratio(best.get(system.full or ""), seconds),
        "bytes_per_token": one.bytes,
        "gb_per_second": None if one.bytes is None else one.bytes / seconds / 1e9,
        "realised_saving": _realised(one, best.get(system.full or "")),
        "same_tokens": _same(one, best.get("transformers")),
        "drafting": one.drafting,
        "idle_cpu_seconds": one.idle,
        "candidate": system.candidate,
        "candidates": {
            o.system.candidate: o.median if o.seconds else o.reason
            for o in candidates
            if o.system.candidate
        },
    }


def _equals(one: Measured) -> tuple[str, ...]:
    weights = one.system.weights
    return LLAMA.get(weights, (f"llama.cpp {weights}",))


def _ratio(other: Measured | None, seconds: float) -> float | None:
    return _seconds(other) / seconds if other is not None and other.seconds else None


def _realised(one: Measured, full: Measured | None) -> float | None:
    """(1 - t / t_full) / (1 - bytes / bytes_full)."""
    if full is None or not full.seconds or one.system.layer is None:
        return None
    if one.bytes is None or full.bytes is None:
        return None
    return (1 - one.median / full.median) / (1 - one.bytes / full.bytes)


def _same(one: Measured, other: Measured | None) -> int | None:
    """How many tokens are those of transformers before the first that is not."""
    if other is None or not other.ids:
        return None
    pairs = zip(one.ids, other.ids, strict=False)
    return next(
        (at for at, (a, b) in enumerate(pairs) if a != b), min(map(len, (one.ids, other.ids)))
    )
