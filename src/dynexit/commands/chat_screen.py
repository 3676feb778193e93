"""A chat in a terminal: answers in the colours of depth as they come, above a line of numbers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from dynexit.api import TokenStream
from dynexit.commands.chat_session import Session
from dynexit.commands.chat_words import Leave, depth_of, obey
from dynexit.commands.output import out
from dynexit.errors import UserError
from dynexit.inference.generation import GeneratedToken
from dynexit.reporting.depth import depth_legend, depth_summary, depth_token

PROMPT = "> "
_PAUSE = 0.05  # seconds between two looks of the line of numbers


class Screen:
    """Reads what the user types and shows what the model says."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._console = out()
        self._numbers = self._console.no_color or self._console.color_system is None

    def run(self) -> None:
        """Talk until the user leaves."""
        with suppress(ImportError):  # arrows and history in input()
            import readline  # noqa: F401
        self._greet()
        while (line := self._read()) is not None:
            try:
                self._answer(line)
            except UserError as error:
                self._console.print(Text(str(error), style="red"))
            except Leave:
                return

    def _greet(self) -> None:
        session, choice = self._session, self._session.choice
        model = session.model
        self._tell(f"{model.model.name}, {model.layers} layers; {depth_of(choice)}")
        if choice.policy is not None:
            self._console.print(depth_legend(choice.policy.layers, model.layers))
        self._tell("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves")

    def _read(self) -> str | None:
        """The next line with anything in it, None at the end of input."""
        while True:
            try:
                if line := input(PROMPT).strip():
                    return line
            except EOFError:
                self._console.print()
                return None
            except KeyboardInterrupt:
                self._console.print()

    def _answer(self, line: str) -> None:
        if line.startswith("/"):
            self._tell(obey(self._session, line))
            return
        try:
            with _interrupts() as stop:
                stream = self._session.ask(line)
                self._show(stream, stop)
        except KeyboardInterrupt:
            self._tell("given up; nothing of it is kept")
            return
        answer = self._session.keep(line, stream.result, stopped=bool(stop))
        if self._session.depth:
            self._tell(depth_summary(answer))
        if stop:
            self._tell("stopped")
        if self._session.forgotten:
            self._tell(f"the context has no room for the oldest turns ({self._session.forgotten})")

    def _show(self, stream: TokenStream, stop: list[int]) -> None:
        lines, looked = _Lines(self._console), 0.0
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            for token in stream:
                for line in lines.push(self._piece(token)):
                    live.console.print(line)
                if time.monotonic() - looked > _PAUSE:
                    status = Text(depth_summary(stream.result), style="dim")
                    shown = Group(lines.last, status) if self._session.depth else lines.last
                    live.update(shown, refresh=True)
                    looked = time.monotonic()
                if stop:
                    break
        self._console.print(lines.last)

    def _piece(self, token: GeneratedToken) -> Text:
        if not self._session.depth:
            return Text(token.text)
        return depth_token(token.text, token.exit_layer, self._session.model.layers, self._numbers)

    def _tell(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))


class _Lines:
    """Pieces of text to lines of a terminal: a line is given out once nothing can change it.

    White space at the beginning and the end of the whole is left out.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = Text()  # white space that may be the end
        self._begun = False
        self.last = Text()

    def push(self, piece: Text) -> list[Text]:
        """The lines that are complete now."""
        if not self._begun:
            piece = piece[len(piece.plain) - len(piece.plain.lstrip()) :]
            self._begun = bool(piece.plain)
        if not piece.plain.strip():
            self._held.append_text(piece)
            return []
        ends = len(piece.plain.rstrip())
        self.last = Text.assemble(self.last, self._held, piece[:ends])
        self._held = piece[ends:]
        *whole, self.last = self._wrapped()
        return whole

    def _wrapped(self) -> list[Text]:
        console = self._console
        return [
            line
            for part in self.last.split(allow_blank=True)
            for line in (part.wrap(console, console.width) if part.plain else [part])
        ]


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C asks for a stop, which fills the list; pressed again, it no longer waits for one."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
