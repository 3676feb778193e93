"""Places that take nothing, or not enough: a disk of so many bytes, a directory that is read-only.

An operation runs there in a process of its own, which alone sees the disk: a file system in memory,
mounted for that process. What was said and what was left is written down before it ends, then the
disk grows and the same command goes on.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dynexit.errors import UserError
from faults.operations import Operation, Result

_NEW_MOUNTS, _NEW_USER = 0x20000, 0x10000000  # CLONE_NEWNS and CLONE_NEWUSER of Linux
_REMOUNT, _PRIVATE = 0x20, 0x40000 | 0x4000  # MS_REMOUNT, MS_PRIVATE | MS_REC
_CAPABILITIES_3 = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root writes anywhere
AMPLE = 1 << 28


@dataclass(frozen=True)
class Outcome:
    """Exit code and lines of a run, what it left in the end (``result``, in the form of the
    operation's own), which of the operation's ``whole`` outputs, and which temporary files."""

    code: int
    lines: list[str]
    result: Result
    whole: list[str]
    temporary: list[str]


def on_disk_of(size: int, operation: Operation, place: Path) -> tuple[Outcome, Outcome]:
    """Run on a disk of ``size`` bytes, then once more when there is room."""
    place.mkdir(parents=True)

    def both() -> list[Outcome]:
        _mount(place, size)
        first = _run(operation, place, place.parent / "log")
        _mount(place, AMPLE, again=True)
        return [first, _run(operation, place, place.parent / "log")]

    first, second = _apart(both, place.parent / "outcomes.json")
    return first, second


def read_only(operation: Operation, place: Path) -> Outcome:
    """Run in a directory that may not be written to."""
    place.mkdir(parents=True)
    place.chmod(0o555)

    def once() -> list[Outcome]:
        _give_up_overrides()
        return [_run(operation, place, place.parent / "log")]

    (outcome,) = _apart(once, place.parent / "outcomes.json")
    place.chmod(0o755)
    return outcome


@cache
def can_mount() -> bool:
    """Whether a process may have a file system of its own here."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            _mount(Path("/tmp"), AMPLE)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(process, 0)[1] == 0


def _apart(work: Callable[[], list[Outcome]], told: Path) -> list[Outcome]:
    """Do the work in a forked process."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            told.write_text(json.dumps([asdict(outcome) for outcome in work()]))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0, "see what the process printed"
    return [Outcome(**outcome) for outcome in json.loads(told.read_text())]


def _run(operation: Operation, place: Path, log: Path) -> Outcome:
    """Run in another process, so that the next run begins as a new command would."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            # a test's own streams may lead elsewhere than the descriptors
            sys.stdout = sys.stderr = log.open("w", buffering=1)
            for stream in (1, 2):
                os.dup2(sys.stdout.fileno(), stream)
            operation.run(place)
            code = 0
        except UserError as error:  # an operation that is no command
            print(f"dynexit: {error}", file=sys.stderr)
            code = 2
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(process, 0)[1]
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    return Outcome(
        os.waitstatus_to_exitcode(status),
        log.read_text(errors="replace").splitlines(),
        operation.result(place),
        [name for name in operation.whole if name in names],
        [name for name in names if os.path.basename(name).startswith(".")],
    )


def _mount(place: Path, size: int, *, again: bool = False) -> None:
    """A file system of ``size`` bytes at ``place``, seen by this process alone; or another size for
    the one that is there."""
    call = ctypes.CDLL(None, use_errno=True)
    if not again:
        user, group = os.geteuid(), os.getegid()
        _done(call.unshare(_NEW_MOUNTS | (_NEW_USER if user else 0)))
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _done(call.mount(b"none", b"/", None, _PRIVATE, None))
    flags = _REMOUNT if again else 0
    _done(call.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, f"size={size}".encode()))


def _give_up_overrides() -> None:
    """Let permissions hold for root, too."""
    call = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    _done(call.capget(header, sets))
    for at in (0, 1):  # effective and permitted, of the first 32
        sets[at] &= ~_OVERRIDES
    _done(call.capset(header, sets))


def _done(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
