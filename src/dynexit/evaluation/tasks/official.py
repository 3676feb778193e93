"""Finding and checking the official files of tasks; without them, the same data from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynexit.errors import UserError


def find_file(data: Path, names: Sequence[str], pattern: str) -> Path:
    """The first of the official ``names`` in ``data``, or the only file that fits ``pattern``.

    ``pattern`` is in lower case. Official archives unpack to a folder, so one level of folders is
    searched as well.
    """
    if not data.is_dir():
        raise UserError(f"--data-dir {data} is not a directory; give the one of the official files")
    there = sorted(path for glob in ("*", "*/*") for path in data.glob(glob) if path.is_file())
    for name in names:
        for path in there:
            if path.name == name:
                return path
    fitting = [path for path in there if Path(path.name.lower()).match(pattern)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found = ", ".join(path.name for path in fitting)
        raise UserError(f"--data-dir {data} holds {found}; name the one to use {names[0]}")
    raise UserError(
        f"--data-dir {data} holds no file of the task; put {' or '.join(names)} there "
        f"(or one file like {pattern})"
    )


def from_hub(repository: str, name: str | None, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of a data set of the hub, through the ``datasets`` library."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(
            f"{repository}: the package datasets is missing; give --data-dir with the official "
            "file, or install 'dynexit[data]'"
        ) from None
    try:
        rows = load_dataset(repository, name, split=split)
    except Exception as error:  # the library raises what its many parts raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{repository}: the hub did not give the data ({reason[0]}); give --data-dir with the "
            "official file"
        ) from None
    return iter(rows)


def text(entry: object, field: str, where: str) -> str:
    """A field that must hold some text; ``where`` is the file and the place in it."""
    value = entry.get(field) if isinstance(entry, Mapping) else None
    if value is None:
        raise UserError(f"{where}: {field!r} is missing; fetch the official file again")
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {field!r} holds no text; fetch the official file again")
    return value.strip()


def entries(entry: object, field: str, where: str) -> list[Any]:
    """A field that must hold a list of something."""
    value = entry.get(field) if isinstance(entry, Mapping) else None
    if value is None:
        raise UserError(f"{where}: {field!r} is missing; fetch the official file again")
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {field!r} holds nothing; fetch the official file again")
    return value


def check_unique(ids: Iterable[str], field: str, where: str) -> None:
    """Refuse a file in which an id stands twice: its questions would count twice."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise UserError(f"{where}: {field} {one!r} stands twice; remove one of the two")
        seen.add(one)
