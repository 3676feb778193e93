"""What a request may say: OpenAI's fields, those that vLLM and others added, and ours."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MOST_STOPS = 16
MOST_CHOICES = 128
MOST_PROMPTS = 128


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Stop = Annotated[str, StringConstraints(min_length=1)]
TokenId = Annotated[Whole, Field(ge=0)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


class Body(BaseModel):
    """Unknown fields are left alone; known ones must have the right type."""

    model_config = ConfigDict(extra="ignore", strict=True)


class StreamOptions(Body):
    """``include_usage``: a last chunk counts the tokens."""

    include_usage: bool | None = None


class Sampled(Body):
    """What completions and chat have in common. None is as good as absent."""

    model: str
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    n: Whole | None = Field(None, ge=1, le=MOST_CHOICES)
    seed: Whole | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # fields of other servers
    top_k: Whole | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(None, gt=0, allow_inf_nan=False)
    # our own
    threshold: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Leave where the score is at least that; above 1, run all layers.",
    )
    risk: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="A certified risk of the exit set."
    )
    lossless: bool | None = Field(None, description="Draft with exits, verify at full depth.")
    # known, and refused unless they ask for nothing
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    def unsupported(self) -> str | None:
        """The name of a field that asks for what this server doesn't have."""
        for name in ("frequency_penalty", "presence_penalty", "logit_bias"):
            if getattr(self, name):
                return name
        return None


class CompletionRequest(Sampled):
    """Body of ``POST /v1/completions``."""

    prompt: str | Ids | Annotated[list[str] | list[Ids], Field(max_length=MOST_PROMPTS)]
    max_tokens: Whole | None = Field(None, ge=1, description="16 if absent.")
    logprobs: Whole | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None
    best_of: Whole | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Every prompt, a text or its token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [ids] if ids else [one for one in self.prompt if not isinstance(one, int)]

    def unsupported(self) -> str | None:
        if self.best_of is not None and self.best_of != (self.n or 1):
            return "best_of"
        if self.echo and self.logprobs is not None:
            return "echo"
        return "suffix" if self.suffix else super().unsupported()


class ContentPart(Body):
    """A piece of a message; only text is understood."""

    type: Literal["text"]
    text: str


class Message(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ResponseFormat(BaseModel):
    """``{"type": "text"}`` is the only one there is."""

    type: str


class ChatRequest(Sampled):
    """Body of ``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: Whole | None = Field(None, ge=1, description="As many as fit if absent.")
    max_completion_tokens: Whole | None = Field(None, ge=1, description="The same, and goes first.")
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(None, ge=0, le=20)
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: ResponseFormat | None = None

    def unsupported(self) -> str | None:
        if self.response_format is not None and self.response_format.type != "text":
            return "response_format"
        for name in ("tools", "functions"):
            if getattr(self, name):
                return name
        return super().unsupported()
