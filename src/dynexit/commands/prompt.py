"""The prompt as it comes from a shell: an argument with escapes, or standard input."""

from __future__ import annotations

import re
import sys

from dynexit.errors import UserError

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


def read_prompt(argument: str) -> str:
    r"""The text of a PROMPT argument, or of standard input where it is ``-``.

    In an argument the two characters ``\n`` stand for a line end and ``\t`` for a tab, as few
    shells write them otherwise, and ``\\`` for one backslash. Standard input is taken as it is,
    but for one line end after the last line, which ``echo`` and editors add.
    """
    text = _standard_input() if argument == "-" else unescaped(argument, "PROMPT")
    if not text:
        raise UserError("PROMPT is empty; give some text")
    return text


def unescaped(argument: str, name: str) -> str:
    """An argument with its escapes read; ``name`` is what messages call it."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:  # bytes that are no UTF-8 arrive as surrogates
        raise UserError(f"{name} is not UTF-8 text; check the terminal's encoding") from None
    return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], argument)


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from None
    return re.sub(r"\r?\n\Z", "", text)
