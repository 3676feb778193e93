"""Broken files: mutations of sound ones, drawn by Hypothesis.

A document is changed in its tree (values of other types and sizes, fields gone, doubled or
exchanged) and sometimes in its bytes, as a bad disk or an unfinished download would.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

MOST_CHANGES = 3
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**63, 10**12, 10**40, 0.0, -0.0, 0.5),
    *(1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), "", "0", "x", "auto"),
    *("mistral", "../x", "/etc/passwd", "\x00", "\ud800", "é" * 40, "a" * 5000, [], [None], [[]]),
    *([0], [-1, 2**63], ["x", 3], {}, {"": None}, {"type": []}, [1] * 300),
)
Path = tuple[str | int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def garbled(draw: Draw, content: bytes) -> bytes:
    """Bytes with a few of them changed, a stretch doubled or cut out, or the end missing."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        at = draw(st.integers(0, len(changed)))
        size = draw(st.integers(1, 40))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            changed[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == 1:
            del changed[at : at + size]
        elif kind == 2:
            changed[at:at] = changed[max(0, at - size) : at]
        else:
            del changed[at:]
    return bytes(changed)


@st.composite
def documents(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """JSON near one of ``seeds``."""
    content = _changed(draw, json.loads(draw(st.sampled_from(seeds))))
    encoded = json.dumps(content).encode()
    return draw(garbled(encoded)) if draw(st.integers(0, 9)) == 0 else encoded


@st.composite
def lines(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """Rows of JSON, one of them changed."""
    rows = draw(st.sampled_from(seeds)).split(b"\n")
    at = draw(st.sampled_from([i for i, row in enumerate(rows) if row]))
    rows[at] = draw(documents([rows[at]]))
    whole = b"\n".join(rows)
    return draw(garbled(whole)) if draw(st.integers(0, 9)) == 0 else whole


@st.composite
def texts(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """Bytes near one of ``seeds``."""
    return draw(garbled(draw(st.sampled_from(seeds))))


@st.composite
def tensors(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """A safetensors file whose header says something else, or with other bytes."""
    content = draw(st.sampled_from(seeds))
    if draw(st.booleans()):
        return draw(garbled(content))
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(_changed(draw, json.loads(content[8 : 8 + length]))).encode()
    told = draw(st.sampled_from([len(header), len(header) - 1, len(header) + 8, 2**40]))
    size = len(header) if draw(st.booleans()) else told
    return size.to_bytes(8, "little") + header + content[8 + length :]


def _changed(draw: Draw, content: Any) -> Any:
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        places = list(_places(content))
        place = draw(st.sampled_from(places))
        kind = draw(st.integers(0, 3))
        if kind == 0 and place:
            content = _without(content, place)
        elif kind == 1:
            content = _with(content, place, _at(content, draw(st.sampled_from(places))))
        elif kind == 2 and isinstance(value := _at(content, place), int | float):
            content = _with(content, place, draw(st.sampled_from([-value, value * 2, value + 1])))
        else:
            content = _with(content, place, draw(st.sampled_from(HOSTILE)))
    return content


def _places(content: Any, here: Path = ()) -> list[Path]:
    """The way to every value of a document, the first few of long lists."""
    found = [here]
    items = list(content.items()) if isinstance(content, dict) else []
    items += list(enumerate(content[:6])) if isinstance(content, list) else []
    for key, value in items[:60]:
        found += _places(value, (*here, key))
    return found


def _at(content: Any, place: Path) -> Any:
    for key in place:
        content = content[key]
    return content


def _with(content: Any, place: Path, value: Any) -> Any:
    if not place:
        return value
    first, rest = place[0], place[1:]
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    copy[first] = _with(content[first], rest, value)
    return copy


def _without(content: Any, place: Path) -> Any:
    *way, last = place
    holder = _at(content, tuple(way))
    kept: Any
    if isinstance(holder, dict):
        kept = {key: value for key, value in holder.items() if key != last}
    else:
        kept = [value for index, value in enumerate(holder) if index != last]
    return _with(content, tuple(way), kept)
