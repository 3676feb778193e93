"""The shapes of answers, for the OpenAPI description of the server."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What every status from 400 on carries."""

    error: ErrorDetail


class Depth(BaseModel):
    """Layers run for each token, counted from 1, and what that saved."""

    exit_layers: list[int]
    mean_exit_layer: float
    layers: int
    layer_saving: float
    drafted: int | None = None
    accepted: int | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    dynexit: Depth


class ChatMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    dynexit: Depth


class ModelExits(BaseModel):
    """The server's own exits: layers, who decides at them, and from which score a token leaves."""

    layers: int
    judge: str | None
    threshold: list[float] | None
    exits: list[int]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dynexit: ModelExits


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    """``status`` is ``ok``, ``draining`` or ``failed``; only the first comes with 200."""

    status: str
    model: str
    running: int
    queued: int
