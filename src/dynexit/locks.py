"""One output, one process that writes to it.

The lock is the system's own (``flock``), which ends with the process however that ends. So there
are no stale locks: a lock file that a killed process left behind is taken over at once, and so is
what else it left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dynexit.errors import UserError
from dynexit.files import remove_leftovers, remove_leftovers_within


@contextmanager
def claimed(output: str | os.PathLike[str], *, within: bool = False) -> Iterator[None]:
    """Hold ``output``, a file or directory that need not be there yet, for this process alone.

    The lock file lies beside it; or ``within`` it, where it is a directory that rows are added to
    (which is made then). Temporary files of a process that was killed are removed. Raises
    ``UserError`` while another process holds the output, or where no lock can be made. Of the
    workers of a ``torchrun`` job the first one claims for all.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    target = Path(output).resolve()
    place = target / ".lock" if within else target.with_name(f".{target.name[:200]}.lock")
    lock = FileLock(place, timeout=0)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another dynexit{_holder(place)} is writing to {output}; "
            "wait for it or choose another directory"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {output}: {reason}; choose another directory") from None
    try:
        _sign(place)
        (remove_leftovers_within if within else remove_leftovers)(target)
        yield
    finally:
        with suppress(OSError):  # while it is still held, so that nobody else holds this name
            place.unlink()
        lock.release()


def _sign(place: Path) -> None:
    """Say in the lock file whose it is; only messages depend on it."""
    with suppress(OSError):
        place.write_text(str(os.getpid()), encoding="ascii")


def _holder(place: Path) -> str:
    try:
        number = place.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {number})" if number.isdecimal() else ""
