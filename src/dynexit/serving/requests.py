"""From what a request says to what is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dynexit.errors import UserError
from dynexit.inference.chat_template import ChatTemplate
from dynexit.inference.prompts import encode_prompt
from dynexit.inference.settings import GenerationSettings, from_generation_config
from dynexit.models import Model
from dynexit.serving.depths import Depths
from dynexit.serving.limits import Limits
from dynexit.serving.order import Order
from dynexit.serving.problem import Problem, invalid
from dynexit.serving.schemas import ChatRequest, CompletionRequest, Sampled

COMPLETION_TOKENS = 16  # where a completion does not say, as OpenAI has it
SEEDS = 1 << 64
HALF = "{} holds half a surrogate pair, which is no character"
T = TypeVar("T")


@dataclass(frozen=True)
class Orders:
    """Makes orders for one model, of chat only with a ``template``. Every method raises ``Problem``
    for what cannot be done."""

    model: Model
    name: str
    depths: Depths
    limits: Limits
    template: ChatTemplate | None

    @property
    def context(self) -> int:
        return self.limits.context(self.model.backbone.config.max_positions)

    def completion(self, request: CompletionRequest) -> Order:
        """The order of a completion: choices of the first prompt, then of the next."""
        self._check(request)
        prompts = [self._encode(one, "prompt") for one in request.prompts]
        if not prompts:
            raise invalid("prompt is an empty list; give a text to go on from", "prompt")
        asked = COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
        longest = max(map(len, prompts))
        self._fits(longest, request.max_tokens, "prompt")
        most = min(asked, self.context - longest)
        return self._order(request, prompts, most, (), request.logprobs)

    def chat(self, request: ChatRequest) -> Order:
        """The order of the next turn of a conversation."""
        self._check(request)
        template = self.template
        if template is None:
            raise invalid(f"{self.name} has no chat template; use /v1/completions", "model")
        turns = [
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text}
            for turn in request.messages
        ]
        if not all(_is_text(turn["content"]) for turn in turns):
            raise invalid(HALF.format("messages"), "messages")
        ids = _by_user(lambda: template.encode(self.model.tokenizer, turns), "messages")
        prompt = self._encode(ids, "messages")
        asked = request.max_completion_tokens or request.max_tokens
        self._fits(len(prompt), asked, "messages")
        if request.top_logprobs is not None and not request.logprobs:
            raise invalid("top_logprobs needs logprobs true", "top_logprobs")
        likely = request.top_logprobs or 0 if request.logprobs else None
        most = asked or self.context - len(prompt)
        return self._order(request, [prompt], most, template.stop, likely)

    def _check(self, request: Sampled) -> None:
        if request.model != self.name:
            raise Problem(
                404,
                f"the model {request.model!r} does not exist; this server has {self.name}",
                param="model",
                code="model_not_found",
            )
        name = request.unsupported()
        if name is not None:
            raise invalid(f"this server has no {name}; leave it out", name, "unsupported")
        if request.stream_options is not None and not request.stream:
            raise invalid("stream_options needs stream true", "stream_options")

    def _encode(self, prompt: str | Sequence[int], param: str) -> list[int]:
        if isinstance(prompt, str) and not _is_text(prompt):
            raise invalid(HALF.format(param), param)
        longest = self.model.backbone.config.vocab
        if not isinstance(prompt, str) and any(token >= longest for token in prompt):
            raise invalid(f"{param} holds a token id beyond the vocabulary of {longest}", param)
        try:
            return encode_prompt(self.model, prompt)
        except UserError as error:
            code = "context_length_exceeded" if "context" in str(error) else None
            raise invalid(str(error), param, code) from None

    def _fits(self, length: int, asked: int | None, param: str) -> None:
        if length + (asked or 1) > self.context:
            more = f" and {asked} for the answer" if asked else ""
            raise invalid(
                f"this model's maximum context length is {self.context} tokens, but the request "
                f"has {length}{more}; shorten it",
                param,
                "context_length_exceeded",
            )

    def _order(
        self,
        request: Sampled,
        prompts: Sequence[list[int]],
        most: int,
        stop: tuple[str, ...],
        likely: int | None,
    ) -> Order:
        settings = _by_user(lambda: self._settings(request, most, stop))
        thresholds = self.depths.of_request(request.threshold, request.risk)
        if request.lossless and likely is not None:
            raise invalid(
                "lossless answers come without logprobs; leave one of them out", "logprobs"
            )
        # where no token leaves early, nothing is drafted
        deep = self.depths.policy is None or (thresholds is not None and min(thresholds) > 1)
        lossless = bool(request.lossless) and not deep
        each = tuple(tuple(prompt) for prompt in prompts for _ in range(request.n or 1))
        return Order(each, settings, thresholds, likely, lossless)

    def _settings(self, request: Sampled, most: int, stop: tuple[str, ...]) -> GenerationSettings:
        """Fields that are absent are the checkpoint's, or else OpenAI's."""
        checkpoint = self.model.generation
        drawn = checkpoint.get("do_sample") and checkpoint.get("temperature") is not None
        own = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
        if not all(map(_is_text, own)):
            raise invalid(HALF.format("stop"), "stop")
        default = None if drawn else 1.0
        return from_generation_config(
            checkpoint,
            max_new_tokens=most,
            temperature=default if request.temperature is None else request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            seed=None if request.seed is None else request.seed % SEEDS,
            stop=own + stop,
            prefill_chunk=self.limits.chunk,
        )


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _by_user(make: Callable[[], T], param: str | None = None) -> T:
    """What ``make`` gives; its ``UserError`` is a mistake in the request."""
    try:
        return make()
    except UserError as error:
        raise invalid(str(error), param) from None
