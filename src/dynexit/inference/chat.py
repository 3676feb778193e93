"""A conversation cut to what the model's context holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynexit.inference.chat_template import ChatTemplate, Message
from dynexit.models.loading import Model


@dataclass(frozen=True)
class ChatPrompt:
    """Token ids to go on from, and the messages that they hold."""

    ids: list[int]
    messages: list[Message]


def fit_to_context(
    model: Model, template: ChatTemplate, messages: Sequence[Message], room: int
) -> ChatPrompt:
    """The conversation without its oldest turns, as few as leave ``room`` tokens for an answer.

    System messages at the beginning and the last turn stay, also where they alone are too long
    for the context; decoding then raises ``UserError``.
    """
    limit = model.backbone.config.max_positions
    kept = list(messages)
    while True:
        ids = template.encode(model.tokenizer, kept)
        shorter = _without_oldest_turn(kept)
        if limit is None or len(ids) + room <= limit or shorter is None:
            return ChatPrompt(ids, kept)
        kept = shorter


def _without_oldest_turn(messages: list[Message]) -> list[Message] | None:
    """The messages without the first turn (a user's message and what follows it), or None where
    there is only one."""
    users = [at for at, message in enumerate(messages) if message["role"] == "user"]
    return messages[: users[0]] + messages[users[1] :] if len(users) > 1 else None
