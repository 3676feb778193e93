"""A worker seen from the runner: a process that answers, fails with a reason, or takes too long."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class WorkerError(Exception):
    """Why a system has no figure, in one line."""


@contextmanager
def telling(command: Sequence[str]) -> Iterator[None]:
    """A program that cannot be started is a reason like others."""
    try:
        yield
    except OSError as error:
        raise WorkerError(f"{command[0]} cannot be started: {error.strerror}") from None


class Worker:
    """Starts ``command`` and waits until it is ready; what it prints otherwise goes to ``log``."""

    def __init__(self, command: Sequence[str], threads: int, log: Path, timeout: float) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._log = log
        with log.open("w") as errors, telling(command):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **OFFLINE, **counts},
                start_new_session=True,  # Ctrl-C is the runner's, who closes them
            )
        self._rest = b""
        try:
            self.version = str(self._reply(timeout)["version"])
        except BaseException:
            self.close()
            raise

    def decode(self, tokens: int, options: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """The answer to one request, or ``WorkerError``; a worker that broke stays broken."""
        if self._process.poll() is not None:
            raise WorkerError(self._ending())
        assert self._process.stdin is not None
        request = json.dumps({"tokens": tokens, "options": options}) + "\n"
        try:
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._ending()) from None
        reply = self._reply(timeout)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _reply(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._process.kill()
                    raise WorkerError(f"no answer within {timeout:g} s")
                if not (part := os.read(self._process.stdout.fileno(), 1 << 16)):
                    raise WorkerError(self._ending())
                self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _ending(self) -> str:
        """How the process ended: the signal, or the last line that it left."""
        code = self._process.wait()
        if code < 0:
            return f"crashed with {signal.Signals(-code).name}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else f"ended with exit code {code}"
