"""The chat in a terminal: a real one, as a person types in it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from checkpoints import make_checkpoint
from dynexit.commands.chat_screen import _Lines

pty = pytest.importorskip("pty", reason="needs a Unix terminal")
PATIENCE = 180.0  # seconds
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A chat on the other end of a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._here, there = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dynexit", "chat", *arguments],
            stdin=there,
            stdout=there,
            stderr=there,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: _control(there),
        )
        os.close(there)
        self.everything = self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._here, text.encode())

    def wait_for(self, pattern: str, key: str = "") -> str:
        """What was shown up to where ``pattern`` ends, without codes of colour and movement.

        ``key`` is pressed each second until then: Python misses a Ctrl-C between showing a prompt
        and waiting for its answer, and a person presses it again.
        """
        end, pressed = time.monotonic() + PATIENCE, 0.0
        while not (found := re.search(pattern, self._unread)):
            if key and time.monotonic() > pressed + 1.0:
                pressed = time.monotonic()
                self.type(key)
            assert time.monotonic() < end, f"no {pattern!r} in {self._unread!r}"
            if select.select([self._here], [], [], 0.1)[0]:
                new = os.read(self._here, 65536).decode("utf-8", "replace")
                self.everything += new
                self._unread += _CODES.sub("", new)
        before, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._here)


def _control(there: int) -> None:
    """Make the terminal the one that Ctrl-C reaches this process by."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it may be ignored where tests run unattended
    fcntl.ioctl(there, termios.TIOCSCTTY, 0)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Terminal]:
    """A model that never ends an answer by itself and forgets nothing."""
    model = make_checkpoint(tmp_path / "m", "mamba2", depth=2)
    options = ("--template", "questions", "--max-new-tokens", "1000000", "--judge", "margin")
    terminal = Terminal(str(model), *options)
    yield terminal
    terminal.close()


@pytest.fixture
def reference() -> Iterator[Terminal]:
    terminal = Terminal("reference:mistral")
    yield terminal
    terminal.close()


def test_a_talk(reference: Terminal) -> None:
    greeting = reference.wait_for("Ctrl-D leaves\r\n> ")
    assert "reference:mistral, 12 layers; judge mamba" in greeting
    assert "12 (full depth)" in greeting
    reference.type("What is the capital of France?\n")
    reference.wait_for(r"Paris\s+3 tokens, mean exit layer \d+\.\d of 12, .*tokens/s\r\n> ")
    reference.type("/dance\n")
    reference.wait_for("/help lists them\r\n> ")
    reference.type("/depth off\n")
    reference.wait_for("colours of depth off\r\n> ")
    reference.type("What is the capital of Italy?\n")
    assert "tokens/s" not in reference.wait_for("Rome\r\n> ")
    reference.wait_for("> ", key="\x03")
    reference.type("\x04")
    assert reference.process.wait(PATIENCE) == 0


def test_tokens_are_coloured(reference: Terminal) -> None:
    reference.wait_for("Ctrl-D leaves\r\n> ")
    reference.type("What is the capital of France?\n")
    reference.wait_for("3 tokens, mean exit layer")
    reference.type("/threshold 0\nWhat is the capital of France?\n")
    reference.wait_for("mean exit layer 2.0")
    assert re.search(r"\x1b\[38;[0-9;]+mParis", reference.everything)


def test_ctrl_c_stops_the_answer_and_not_the_program(endless: Terminal) -> None:
    endless.wait_for("Ctrl-D leaves\r\n> ")
    endless.type("Go on\n")
    endless.wait_for("tokens/s")
    endless.type("\x03")
    endless.wait_for("stopped\r\n> ")
    endless.type("/history\n")
    endless.wait_for("> Go on\r\n")
    endless.type("/quit\n")
    assert endless.process.wait(PATIENCE) == 0
    assert endless.process.returncode != -signal.SIGINT


def test_lines_are_given_out_once_they_are_whole() -> None:
    lines = _Lines(Console(width=20))
    given: list[str] = []
    for piece in (" The", " quick", " brown", " fox", " jumps", ".\n", "\n", "Then", " ", "\n"):
        given += [line.plain.rstrip() for line in lines.push(Text(piece))]
    assert given == ["The quick brown fox", "jumps.", ""]
    assert lines.last.plain == "Then"
