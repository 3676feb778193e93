"""Prompts as token ids, and how much room they leave for answers."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.errors import UserError
from dynexit.inference.answer import Answer
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model

Prompt = str | Sequence[int]


def encode_prompt(model: Model, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, or ``UserError`` where it is empty or longer than the context."""
    if not prompt:
        raise UserError("the prompt is empty; give some text to go on from")
    ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise UserError("the prompt holds no token; give some text to go on from")
    limit = model.backbone.config.max_positions
    if limit is not None and len(ids) >= limit:
        raise UserError(
            f"the prompt has {len(ids)} tokens, the model's context holds {limit}; shorten it"
        )
    if max(ids) >= model.backbone.config.vocab:
        raise UserError(
            f"{model.directory}: the tokenizer gives id {max(ids)}, config.json's vocab_size is "
            f"{model.backbone.config.vocab}; they belong to different models"
        )
    return ids


def begin_answers(
    model: Model, prompts: Sequence[Prompt], settings: GenerationSettings
) -> list[Answer]:
    """An empty answer for each prompt, with the room that the model's context leaves it."""
    ids = [encode_prompt(model, prompt) for prompt in prompts]
    limit, wanted = model.backbone.config.max_positions, settings.max_new_tokens
    budgets = [wanted if limit is None else min(wanted, limit - len(one)) for one in ids]
    return [Answer(i, n, model, settings.stop) for i, n in zip(ids, budgets, strict=True)]


def capacity(answers: Sequence[Answer]) -> int:
    """Tokens of the longest text that may come of these."""
    return max(len(answer.prompt) + answer.budget for answer in answers)
