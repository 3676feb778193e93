"""Fuzzing for a given time, each target in a process of its own that may die.

An input passes if it is accepted or refused by a ``UserError`` of one line. Anything else that
escapes, a process that ends, more memory than ``MEMORY`` and more than ``PATIENCE`` seconds are
crashes; the input is kept in ``corpus/TARGET`` and from then on is one of the tests.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings

from dynexit.errors import UserError
from fuzz.server import SERVERS
from fuzz.targets import MAKERS, Target, make_target

MAKERS.update(SERVERS)
CORPUS = Path(__file__).parent / "corpus"
PATIENCE = 20  # seconds an input may take
MEMORY = 12 << 30  # bytes of address space; PyTorch alone takes 4 GB of it
LONGEST = 1000  # characters of a clear line
ROUND = 100  # inputs of a run of Hypothesis, which remembers all it has drawn


class TooSlow(BaseException):
    """Not an ``Exception``, so that no parser takes it for a fault of its file."""


@dataclass
class Tally:
    """What became of the inputs of a target."""

    target: str
    seconds: float = 0.0
    accepted: int = 0
    refused: int = 0
    crashes: dict[str, str] = field(default_factory=dict)  # where: the file in the corpus

    @property
    def inputs(self) -> int:
        return self.accepted + self.refused + len(self.crashes)


def attempt(target: Target, content: bytes) -> str | None:
    """None if the input is accepted, the line if it is refused; anything else is raised."""
    try:
        target.parse(content)
    except UserError as error:
        line = " ".join(str(error).split())
        assert line, "a refusal that says nothing"
        assert len(line) <= LONGEST, f"a refusal of {len(line)} characters"
        return line
    return None


def _where(error: BaseException) -> str:
    """The kind of an error and the last line of dynexit that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/dynexit/" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:160]}"


def keep(target: str, content: bytes) -> Path:
    """Put an input into the corpus."""
    path = CORPUS / target / hashlib.sha256(content).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _work(name: str, number: int, seconds: float, place: Path) -> None:
    """Fuzz a target and write the tally to ``place``; the newest input is always there, too."""

    def too_slow(signum: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {PATIENCE} seconds")

    os.environ["RUST_BACKTRACE"] = "0"
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, too_slow)
    target, tally = make_target(name, place / "files"), Tally(name)
    begun, newest, seen = time.monotonic(), place / "newest", Counter[str]()
    until = begun + seconds
    while time.monotonic() < until:

        @seed(number)
        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.inputs)
        def go(content: bytes) -> None:
            if time.monotonic() > until:
                return
            newest.write_bytes(content)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            try:
                if attempt(target, content) is None:
                    tally.accepted += 1
                else:
                    tally.refused += 1
            except (Exception, TooSlow) as error:
                _note(tally, seen, error, content)
            except BaseException as error:  # a panic of a library in Rust
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                _note(tally, seen, error, content)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        go()
        number += 1
    tally.seconds = time.monotonic() - begun
    (place / "tally.json").write_text(json.dumps(asdict(tally)))


def _note(tally: Tally, seen: Counter[str], error: BaseException, content: bytes) -> None:
    """Keep the first input of each crash."""
    where = _where(error)
    key = where.split(":")[0] + where.split(":")[1]
    seen[key] += 1
    if seen[key] == 1:
        tally.crashes[where] = str(keep(tally.target, content).relative_to(CORPUS))


def fuzz(name: str, number: int, seconds: float) -> Tally:
    """The tally of one target, whatever becomes of the process that fuzzes it."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(name, number, seconds, place)
        )
        process.start()
        process.join(seconds + 4 * PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        told = place / "tally.json"
        if told.exists():
            return Tally(**json.loads(told.read_text()))
        newest = place / "newest"
        content = newest.read_bytes() if newest.exists() else b""
        kept = str(keep(name, content).relative_to(CORPUS))
        return Tally(name, seconds, crashes={f"the process ended with {process.exitcode}": kept})
