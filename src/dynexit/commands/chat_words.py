"""The words that begin with / in a chat: each changes the session and tells what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dynexit.commands.chat_session import Session
from dynexit.errors import UserError
from dynexit.exits.choice import Choice
from dynexit.files import write_json


class Leave(Exception):
    """The user wants to go."""


@dataclass(frozen=True)
class Word:
    """A command of the chat: how it is written, what it does, and the function that does it to a
    session with the text after the word."""

    usage: str
    help: str
    act: Callable[[Session, str], str]


def obey(session: Session, line: str) -> str:
    """Do what a line that begins with / says, and give back what to tell the user.

    Raises ``UserError`` for what makes no sense, ``Leave`` for /quit.
    """
    name, _, rest = line.partition(" ")
    if name not in WORDS:
        raise UserError(f"{name} is no command of the chat; /help lists them")
    return WORDS[name].act(session, rest.strip())


def depth_of(choice: Choice) -> str:
    """When tokens leave, in words."""
    if choice.policy is None:
        return "full depth"
    if choice.threshold is None:
        return f"every token leaves after layer {choice.policy.layers[0]}, state {choice.state}"
    many = choice.threshold if isinstance(choice.threshold, list) else [choice.threshold]
    threshold = ", ".join(f"{one:g}" for one in many)
    return f"judge {choice.judge}, threshold {threshold}, state {choice.state}"


def _threshold(session: Session, text: str) -> str:
    try:
        threshold = float(text)
    except ValueError:
        raise UserError(f"/threshold: {text!r} is no number; give a score, 0 to 1") from None
    return depth_of(session.change(threshold=threshold))


def _judge(session: Session, text: str) -> str:
    if not text:
        raise UserError("/judge needs a name, such as mamba or margin")
    return depth_of(session.change(judge=text))


def _full(session: Session, _: str) -> str:
    session.full_depth()
    return "full depth, until /judge or /threshold"


def _lossless(session: Session, text: str) -> str:
    session.change(lossless=_on(text, "/lossless"))
    return f"lossless {text}"


def _depth(session: Session, text: str) -> str:
    session.depth = _on(text, "/depth")
    return f"colours of depth {text}"


def _reset(session: Session, _: str) -> str:
    session.reset()
    return "forgotten"


def _history(session: Session, _: str) -> str:
    lines = [f"> {turn.said}\n{turn.answer.text.strip()}" for turn in session.turns]
    return "\n".join(lines) or "nothing was said yet"


def _save(session: Session, text: str) -> str:
    if not text:
        raise UserError("/save needs the name of a file")
    write_json(text, session.describe())
    return f"{len(session.turns)} turns are in {text}"


def _help(_: Session, __: str) -> str:
    width = max(len(word.usage) for word in WORDS.values())
    return "\n".join(f"{word.usage:<{width}}  {word.help}" for word in WORDS.values())


def _quit(_: Session, __: str) -> str:
    raise Leave


def _on(text: str, word: str) -> bool:
    if text not in ("on", "off"):
        raise UserError(f"{word}: say on or off")
    return text == "on"


WORDS = {
    word.usage.split()[0]: word
    for word in (
        Word("/threshold X", "leave where the judge's score is at least X, 0 to 1", _threshold),
        Word("/judge NAME", "another judge: mamba, linear, shared, margin, none, ...", _judge),
        Word("/full", "every token through all layers", _full),
        Word("/lossless on|off", "draft with exits, verify at full depth", _lossless),
        Word("/depth on|off", "colours and numbers of depth", _depth),
        Word("/reset", "begin a new conversation", _reset),
        Word("/history", "what was said", _history),
        Word("/save FILE", "write the conversation with exit layers and scores as JSON", _save),
        Word("/help", "this list", _help),
        Word("/quit", "leave (as Ctrl-D does)", _quit),
    )
}
