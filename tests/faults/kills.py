"""Killing an operation at a random point and letting it go on.

Processes are forked from one that has everything imported, so that a kill costs the work and not
the start of Python. Half of the kills come after a random time; half at a random step that the work
takes in the file system (files opened, moved and removed, directories made), which finds the
moments between two of them however short they are.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from faults.operations import Operation, Result, leftovers

STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
MOST_RUNS = 60  # of an operation until one of them must have come to its end
WAIT = 300.0  # seconds for a run


@dataclass
class Kills:
    """What became of the kills of one operation."""

    operation: str
    kills: int = 0
    by_time: int = 0
    by_step: int = 0
    runs_to_the_end: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Undisturbed:
    """The result of a run that nobody kills, its length in seconds and in steps."""

    result: Result
    seconds: float
    steps: int


def undisturbed(operation: Operation, place: Path) -> Undisturbed:
    """Run to the end: once for the result, once more to see that it comes out the same."""
    results = []
    for turn in ("once", "again"):
        directory = _fresh(place / turn)
        begun = time.monotonic()
        assert _run(operation, directory, log=place / "log"), (place / "log").read_text()
        seconds = time.monotonic() - begun
        results.append(operation.result(directory))
        assert leftovers(directory) == [], leftovers(directory)
    assert results[0], f"{operation.name} leaves nothing"
    assert results[0] == results[1], f"{operation.name} is not the same twice"
    steps = int((place / "log.steps").read_text())
    return Undisturbed(results[0], seconds, steps)


def kill_and_resume(
    operation: Operation, expected: Undisturbed, place: Path, wanted: int, seed: int
) -> Kills:
    """Kill ``wanted`` times, in runs of up to three kills that then go on to the end."""
    rng, told = random.Random(f"{operation.name}-{seed}"), Kills(operation.name)
    begun = time.monotonic()
    while told.kills < wanted:
        directory = _fresh(place / "killed")
        for _ in range(rng.randint(1, 3)):
            if told.kills < wanted:
                _kill(operation, expected, directory, rng, told)
        _finish(operation, expected, directory, told)
    told.seconds = time.monotonic() - begun
    return told


def _kill(
    operation: Operation, expected: Undisturbed, place: Path, rng: random.Random, told: Kills
) -> None:
    """One run that is killed, if it does not end before; then what is whole must be right."""
    by_step = rng.random() < 0.5
    if by_step:
        survived = _run(operation, place, at_step=rng.randint(1, expected.steps))
    else:
        survived = _run(operation, place, after=rng.uniform(0.0, expected.seconds))
    if survived:
        # a run that goes on has less to do, or the command refuses to do it again
        _fresh(place)
        return
    told.kills += 1
    told.by_step += by_step
    told.by_time += not by_step
    for name in operation.whole:
        if (place / name).exists() and operation.result(place) != expected.result:
            told.differences.append(f"kill {told.kills}: {name} is there, but not whole")


def _finish(operation: Operation, expected: Undisturbed, place: Path, told: Kills) -> None:
    done = operation.result(place) == expected.result if place.exists() else False
    if not _run(operation, place, log=place.parent / "log"):
        said = (place.parent / "log").read_text().strip().splitlines()
        # a result that was whole at the time of the kill need not be made again
        if not (done and operation.name == "quantisation"):
            told.differences.append(f"after kill {told.kills}: {said[-1] if said else 'no word'}")
            return
    told.runs_to_the_end += 1
    if operation.result(place) != expected.result:
        told.differences.append(
            f"after kill {told.kills}: {_differing(operation, expected, place)}"
        )
    if left := leftovers(place):
        told.differences.append(f"after kill {told.kills}: left behind {', '.join(left)}")


def _differing(operation: Operation, expected: Undisturbed, place: Path) -> str:
    found = operation.result(place)
    names = sorted(found.keys() | expected.result.keys())
    return ", ".join(name for name in names if found.get(name) != expected.result.get(name))


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _run(
    operation: Operation,
    place: Path,
    *,
    after: float | None = None,
    at_step: int | None = None,
    log: Path | None = None,
) -> bool:
    """Run in a process of its own. True if it came to its end, False if it was killed or failed."""
    process = os.fork()
    if process == 0:
        _child(operation, place, at_step, log)
    deadline = time.monotonic() + (WAIT if after is None else after)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert after is not None, f"{operation.name} takes more than {WAIT:g} seconds"
    return False


def _child(operation: Operation, place: Path, at_step: int | None, log: Path | None) -> None:
    """The forked process, which does not come back."""
    taken = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal taken
        if event in STEPS and (event != "open" or _writes(arguments)):
            taken += 1
            if taken == at_step:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.addaudithook(count)
        operation.run(place)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        if log is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            log.with_name(log.name + ".steps").write_text(str(taken))
        os._exit(code)


def _writes(arguments: tuple[object, ...]) -> bool:
    """Whether the audit event ``open`` (path, mode, flags) opens a file to write to."""
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
