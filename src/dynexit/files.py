"""Files that are either whole or not there.

Every file that dynexit writes goes through here: the content is written beside its target under a
temporary name, forced to disk, and moved into place in one step. A reader never sees half a file,
and a full disk, an error or Ctrl-C leaves what was there before.
"""

import ctypes
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dynexit.errors import UserError

_TEMPORARY = re.compile(r"\.(?P<stem>.{0,32})\.[0-9a-f]{12}(?P<suffix>\..*)?", re.DOTALL)
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; move it to `path` when the block ends well.

    The temporary path has the same suffix as `path`, as some writers choose their format by it.
    Missing parent directories are made. A symbolic link is followed, not replaced.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        kind = "a directory" if target.is_dir() else "not a regular file"
        raise UserError(f"cannot write {path}: it is {kind}; choose another path")
    temporary = _sibling(target)
    try:
        with _telling(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode & 0o777
        with _telling_full_disk(path):
            yield temporary
        with _telling(path):
            temporary.chmod(mode)  # some writers make a private file of their own
            _sync(temporary)
            os.replace(temporary, target)
            _sync(target.parent)
    finally:
        with suppress(OSError):  # moved away, or never made
            temporary.unlink()


@contextmanager
def atomic_directory(path: str | os.PathLike[str], *, marker: str | None = None) -> Iterator[Path]:
    """Yield a temporary directory to fill; move it to `path` when the block ends well.

    A directory already at `path` is replaced whole, but only if it is an earlier one of its kind:
    empty, or holding `marker` (checked before the block runs). Without a marker it must share a
    name with the new content (checked after). So a mistyped path never costs a user's directory.
    """
    target = Path(path).resolve()
    _refuse_if_precious(target, path)
    if marker is not None:
        _refuse_if_foreign(target, path, {marker})
    temporary = _sibling(target)
    try:
        with _telling(path):
            temporary.mkdir(parents=True)
        with _telling_full_disk(path):
            yield temporary
        if marker is None:
            _refuse_if_foreign(target, path, set(os.listdir(temporary)))
        with _telling(path):
            for directory, _, files in os.walk(temporary):
                for name in files:
                    _sync(Path(directory, name))
                _sync(Path(directory))
            if target.exists():
                _exchange(temporary, target)  # the earlier one is the temporary now
            else:
                os.replace(temporary, target)
            _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove temporary files that killed processes left beside ``target``. Only for one who knows
    that nobody else is writing to it; see ``locks.claimed``."""
    stem, suffix = target.stem[:32], target.suffix[:16]
    for path in _temporaries(target.parent):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found["stem"] == stem and (found["suffix"] or "") == suffix:
            _remove(path)


def remove_leftovers_within(directory: Path) -> None:
    """The same for every file that is written in ``directory`` and below it."""
    for place, _, _ in os.walk(directory):
        for path in _temporaries(Path(place)):
            _remove(path)


def _temporaries(directory: Path) -> list[Path]:
    with suppress(OSError):  # what cannot be listed has nothing of ours to remove
        return [path for path in directory.iterdir() if _TEMPORARY.fullmatch(path.name)]
    return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write `data` as an indented JSON object in UTF-8, atomically."""
    content = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    encoded = content.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object from a UTF-8 file; a UserError names the file and its fault."""
    try:
        data = json.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 or fetch it again"
        ) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path} is not valid JSON ({error.msg}, {where}); mend it or fetch it again"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of absurd length
        raise UserError(f"{path} is not usable JSON ({error}); fetch it again") from error
    if not isinstance(data, dict):
        found = {list: "a list", str: "a string", type(None): "null"}.get(type(data), "a value")
        raise UserError(f"{path} must hold a JSON object ({{...}}), but it holds {found}")
    return data


def _sibling(target: Path) -> Path:
    """A name that nothing has yet, in the same directory and so on the same file system."""
    return target.with_name(f".{target.stem[:32]}.{secrets.token_hex(6)}{target.suffix[:16]}")


def _exchange(temporary: Path, target: Path) -> None:
    """Swap two directories: in one step where the system can, so that a kill never finds none at
    ``target``; else in three, put back if one of them fails."""
    if _exchanged(temporary, target):
        return
    previous = _sibling(target)
    os.replace(target, previous)
    try:
        os.replace(temporary, target)
    except BaseException:
        os.replace(previous, target)
        raise
    os.replace(previous, temporary)


def _exchanged(one: Path, other: Path) -> bool:
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # not on Linux
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    """Force a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # a file system without fsync
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error of the file system, raised by a step of ours, into a UserError."""
    with _telling_full_disk(path):
        try:
            yield
        except OSError as error:
            if _is_full_disk(error):
                raise
            reason = _reason(error)
            raise UserError(f"cannot write {path}: {reason}; choose another path") from error


@contextmanager
def _telling_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a full disk, met by any writer, into a UserError; let every other error pass."""
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        raise UserError(
            f"cannot write {path}: the disk is full (or a quota is used up); "
            "free space and run again"
        ) from error


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return "No space left on device" in str(error)  # safetensors and torch raise their own types


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refuse_if_precious(target: Path, path: str | os.PathLike[str]) -> None:
    """Refuse a file, and the directory one works in, the home directory and all above them."""
    if target.exists() and not target.is_dir():
        raise UserError(f"cannot write the directory {path}: a file is there; choose another path")
    inhabited = [Path.cwd()]
    with suppress(RuntimeError):  # an account without a home
        inhabited.append(Path.home())
    if any(place.is_relative_to(target) for place in inhabited):
        raise UserError(f"{path} would replace the directory you work in; name a new directory")


def _refuse_if_foreign(target: Path, path: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Refuse to replace a directory with content that holds none of `names`."""
    if not target.exists():
        return
    present = set(os.listdir(target))
    if present and present.isdisjoint(names):
        raise UserError(
            f"{path} holds other files, which would be lost; choose another directory or empty it"
        )
