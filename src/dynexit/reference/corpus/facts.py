"""The closed-book facts and the raw misconceptions, read from the shipped `facts.json`.

`harvest.py` writes that file from public data packages; reading it needs none of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("facts.json")


@dataclass(frozen=True)
class Fact:
    """One fact: `relation` of `subject` is `answer`; `level` 1 is the best known, 3 the least."""

    relation: str
    subject: str
    answer: str
    aliases: tuple[str, ...]
    level: int


@dataclass(frozen=True)
class Myth:
    """A truth that has popular false rivals.

    `false` are the rivals met in training and `held_out` those kept for the test.
    """

    kind: str
    subject: str
    truth: str
    false: tuple[str, ...]
    held_out: tuple[str, ...]


@cache
def facts() -> tuple[Fact, ...]:
    """All facts, in the order of the file."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))["facts"]
    return tuple(
        Fact(relation, subject, answer, tuple(aliases), level)
        for relation, entries in rows.items()
        for subject, answer, aliases, level in entries
    )


@cache
def myths() -> tuple[Myth, ...]:
    """All misconceptions, in the order of the file."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))["myths"]
    return tuple(
        Myth(kind, subject, truth, tuple(false), tuple(held_out))
        for kind, entries in rows.items()
        for subject, truth, false, held_out in entries
    )
