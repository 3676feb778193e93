"""Text as it comes: tokens to text piece by piece, and strings that stop it.

What was given out is never taken back: half a character waits for its other half, and text that
may turn out to be the start of a stop string waits until that is decided.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.models.tokenizer import Tokenizer

_UNKNOWN = "\ufffd"  # what decoders show for bytes that are no character, or not yet
_WINDOW = 16  # tokens decoded at once; twice as many where no character ends with a token
_BYTES = 4  # of the longest character in UTF-8


class TextStream:
    """The text of one answer, token by token, cut at the first stop string.

    The pieces together are the decoded answer, without the stop string and what follows it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._cutter = StopCutter(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come; pushing more gives nothing."""
        return self._cutter.stopped

    def push(self, token: int) -> str:
        """The text that is decided now that ``token`` has come; often empty."""
        piece = self._detokenizer.push(token)
        return self._cutter.push(piece) if piece else ""

    def finish(self) -> str:
        """What was held back, once no more tokens come."""
        return self._cutter.push(self._detokenizer.finish()) + self._cutter.finish()


class Detokenizer:
    """Tokens to text, decoding a short window of the last tokens each time.

    The window starts with tokens already given out, since what a token says may depend on the one
    before (a leading space, bytes of one character).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0  # characters of the window's text that were given out
        self._waiting = 0  # tokens since then
        self._cut = 0  # where the window may be cut: a text was whole there
        self._whole = 0  # the last such place

    def push(self, token: int) -> str:
        """The text that ``token`` completes; often empty."""
        self._window.append(token)
        self._waiting += 1
        text = self._tokenizer.decode(self._window)
        whole = not text.endswith(_UNKNOWN)
        if whole and len(text) == self._shown > 0:
            self._window.pop()  # a special token, which is no text
            return ""
        decided = self._decided(text)
        piece, grown = text[self._shown : decided], decided > self._shown
        if grown:
            self._shown, self._waiting = decided, 0
        if grown and whole:
            self._cut, self._whole = self._whole, len(self._window)
        if len(self._window) > (_WINDOW if whole else 2 * _WINDOW):
            self._slide()
        return piece

    def finish(self) -> str:
        """What was held back, once no more tokens come."""
        text = self._tokenizer.decode(self._window)
        piece, self._shown = text[self._shown :], max(self._shown, len(text))
        return piece

    def _decided(self, text: str) -> int:
        """Characters of ``text`` that later tokens cannot change."""
        if self._waiting < _BYTES:
            return len(text.rstrip(_UNKNOWN))
        # no character takes more tokens: these bytes are none, but the last may begin one
        return max(len(text.rstrip(_UNKNOWN)), len(text) - (_BYTES - 1))

    def _slide(self) -> None:
        """Forget the oldest tokens of the window."""
        hidden = len(self._tokenizer.decode(self._window)) - self._shown
        cut = max(self._cut, len(self._window) - _WINDOW // 2)
        self._window = self._window[cut:]
        self._whole = max(0, self._whole - cut)
        self._cut = 0
        self._shown = max(0, len(self._tokenizer.decode(self._window)) - hidden)


class StopCutter:
    """Text cut at the stop string that is complete first, wherever pieces begin and end."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """The text that is sure to come before any stop string."""
        if self.stopped:
            return ""
        text = self._held + piece
        found = [(at + len(s), at) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """Text held back that turned out to begin no stop string."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop string."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(s.startswith(text[-length:]) for s in self._stop):
                return length
        return 0
