"""Rows of JSON, one a line, written so that a kill at any moment loses at most the last write."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dynexit.errors import UserError
from dynexit.files import atomic_path

Row = Mapping[str, Any]


class Journal:
    """A JSONL file whose rows are known by a key; a row with a key that is there is not written."""

    def __init__(self, path: Path, key: Callable[[Row], object]) -> None:
        self.path = path
        self._key = key
        self._rows: dict[object, Row] = {}
        for row in read_rows(path):
            try:
                self._rows.setdefault(key(row), row)
            except (KeyError, TypeError):  # a field of the key is missing, or of another form
                raise UserError(
                    f"{path}: a row has no name that it is known by; remove its line and run again"
                ) from None

    @property
    def rows(self) -> list[Row]:
        """All rows in order, without doubled ones."""
        return list(self._rows.values())

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def add(self, rows: Iterable[Row]) -> None:
        """Append the rows that are new; on disk when this returns."""
        new: dict[object, Row] = {}
        for row in rows:
            if (key := self._key(row)) not in self._rows:
                new.setdefault(key, row)
        if new:
            append_rows(self.path, list(new.values()))
            self._rows |= new

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Put these rows in the place of all, in one step."""
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(_encoded(rows))
        self._rows = {self._key(row): row for row in rows}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where it does not exist. A last line that a kill has torn is left
    out; any other line that is no JSON object is a ``UserError``."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    lines = content.split(b"\n")[:-1]  # what follows the last line end is torn
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise UserError(f"{path}, line {number} is damaged; remove that line and run again")
    return rows


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows and force them to disk; a torn last line is cut off first. Where they don't all
    go in, the file is as it was, and a ``UserError`` says why."""
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            end = _whole(descriptor)
            if end < os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, end)
            try:
                _write(descriptor, end, _encoded(rows))
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):  # else readers leave the torn line out
                    os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def _encoded(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _write(descriptor: int, at: int, content: bytes) -> None:
    os.lseek(descriptor, at, os.SEEK_SET)
    while content:
        content = content[os.write(descriptor, content) :]


def _whole(descriptor: int) -> int:
    """Length of a file to the end of its last whole line."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise UserError(
                f"cannot write {path}: the disk is full; free space and run again"
            ) from None
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {path}: {reason}; choose another directory") from None
