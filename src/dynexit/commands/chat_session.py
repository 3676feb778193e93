"""A conversation with a model: what was said, and the settings of what is said next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack, cast

from dynexit.api import Completion, EarlyExitModel, ExitOptions, Options, TokenStream
from dynexit.exits.choice import NONE, Choice
from dynexit.inference.chat import fit_to_context
from dynexit.inference.chat_template import ChatTemplate, Message


@dataclass(frozen=True)
class Turn:
    """What the user said and what came back, whole or as far as it came."""

    said: str
    answer: Completion
    stopped: bool


class Session:
    """The turns so far, in the words of ``template``, after what ``system`` says.

    ``forgotten`` counts the oldest turns that the context has no room for; ``depth`` says whether
    people want to see it.
    """

    def __init__(self, model: EarlyExitModel, template: ChatTemplate, system: str | None) -> None:
        self.model = model
        self.turns: list[Turn] = []
        self.forgotten = 0
        self.depth = True
        self._template = template
        self._system = system
        self._changes: ExitOptions = {}

    @property
    def choice(self) -> Choice:
        """Judge, threshold and state policy of the next answer."""
        return self.model.choice(**cast(Options, self._changes))

    def change(self, **changes: Unpack[ExitOptions]) -> Choice:
        """Other exits from the next answer on; a ``UserError`` leaves all as it was."""
        new = cast(Options, {**self._back_from_full_depth(), **changes})
        choice = self.model.choice(**new)
        self._changes = cast(ExitOptions, new)
        return choice

    def full_depth(self) -> None:
        """No exits, until ``change`` asks for some."""
        self._changes = {"judge": NONE}

    def ask(self, text: str) -> TokenStream:
        """The answer to ``text``, token by token; ``keep`` makes it a turn."""
        model, settings = self.model, self.model.settings
        limit = model.model.backbone.config.max_positions
        longest = settings.max_new_tokens
        room = longest if limit is None else min(longest, limit // 2)
        prompt = fit_to_context(model.model, self._template, self._messages(text), room)
        users = sum(message["role"] == "user" for message in prompt.messages)
        self.forgotten = len(self.turns) + 1 - users
        options = model.ending(self._template, cast(Options, self._changes))
        return model.stream(prompt.ids, **options)

    def keep(self, text: str, answer: Completion, stopped: bool = False) -> Completion:
        """Make a question and its answer part of the conversation."""
        self.turns.append(Turn(text, answer, stopped))
        return answer

    def reset(self) -> None:
        """Forget what was said."""
        self.turns, self.forgotten = [], 0

    def describe(self) -> dict[str, Any]:
        """The conversation and what it cost."""
        model = self.model
        return {
            "model": model.model.name,
            "layers": model.layers,
            "system": self._system,
            "turns": [_row(turn) for turn in self.turns],
        }

    def _messages(self, text: str) -> list[Message]:
        messages: list[Message] = []
        if self._system is not None:
            messages.append({"role": "system", "content": self._system})
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.said})
            messages.append({"role": "assistant", "content": turn.answer.text.strip()})
        return [*messages, {"role": "user", "content": text}]

    def _back_from_full_depth(self) -> ExitOptions:
        return {} if self._changes.get("judge") == NONE else self._changes


def _row(turn: Turn) -> dict[str, Any]:
    answer = turn.answer
    return {
        "said": turn.said,
        "text": answer.text.strip(),
        "mean_exit_layer": answer.mean_exit_layer,
        "layer_saving": answer.layer_saving,
        "tokens_per_second": answer.tokens_per_second,
        "prompt_tokens": answer.prompt_tokens,
        "finish": "stopped" if turn.stopped else answer.finish,
        "acceptance_rate": None if answer.drafting is None else answer.drafting.acceptance_rate,
        "tokens": [
            {"id": t.id, "text": t.text, "exit_layer": t.exit_layer, "score": t.score}
            for t in answer.tokens
        ],
    }
