"""From prompts to answers: the loop over decoding steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from dynexit.errors import UserError
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.answer import Answer
from dynexit.inference.decoder import Decoder
from dynexit.inference.generation import GeneratedToken, Generation
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model

Prompt = str | Sequence[int]


def generate(
    model: Model,
    prompts: str | Sequence[Prompt],
    settings: GenerationSettings | None = None,
    policy: ExitPolicy | None = None,
) -> list[Generation]:
    """Answer every prompt, all of them in one batch; a single string gives a list of one.

    A prompt is a text or its token ids. Without a policy every token runs to the last layer.
    Raises ``UserError`` for an empty prompt or one beyond the model's context.
    """
    texts: list[Prompt] = [prompts] if isinstance(prompts, str) else list(prompts)
    run = Run(model, texts, settings or GenerationSettings(), policy)
    for _ in run.steps():
        pass
    return run.generations()


class Stream:
    """The tokens of one answer as they come; ``result`` is the whole when they have ended."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __iter__(self) -> Iterator[GeneratedToken]:
        for tokens in self._run.steps():
            yield from tokens.values()

    @property
    def result(self) -> Generation:
        return self._run.generations()[0]


def stream(
    model: Model,
    prompt: Prompt,
    settings: GenerationSettings | None = None,
    policy: ExitPolicy | None = None,
) -> Stream:
    """Answer one prompt token by token; the tokens' texts joined are the answer."""
    return Stream(Run(model, [prompt], settings or GenerationSettings(), policy))


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


class Run:
    """The decoding of a batch of prompts; rows that end are dropped from it."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        policy: ExitPolicy | None,
    ) -> None:
        backbone = model.backbone
        ids = [encode_prompt(model, prompt) for prompt in prompts]
        limit = backbone.config.max_positions
        room = [settings.max_new_tokens if limit is None else limit - len(i) for i in ids]
        budgets = [min(settings.max_new_tokens, n) for n in room]
        self._answers = [
            Answer(i, n, model, settings.stop) for i, n in zip(ids, budgets, strict=True)
        ]
        capacity = max(len(i) + n for i, n in zip(ids, budgets, strict=True))
        self._decoder = Decoder(backbone, len(ids), capacity, policy)
        self._sampler = Sampler(settings, len(ids), backbone.config.vocab)
        self._chunk = settings.prefill_chunk
        self._depth = backbone.depth
        self._prefill_seconds = 0.0

    def steps(self) -> Iterator[dict[int, GeneratedToken]]:
        """The new tokens of each step by the number of their prompt."""
        begin = time.perf_counter()
        self._decoder.prefill([answer.prompt[:-1] for answer in self._answers], self._chunk)
        for row, answer in enumerate(self._answers):
            self._sampler.see(row, answer.prompt)
        self._prefill_seconds = time.perf_counter() - begin
        active = list(range(len(self._answers)))
        seconds = 0.0
        while active:
            begin = time.perf_counter()
            step = self._decoder.step([self._answers[index].last for index in active])
            chosen = self._sampler.sample(step.logits)
            seconds += time.perf_counter() - begin
            made = {
                index: self._answers[index].push(token, step, row)
                for row, (index, token) in enumerate(zip(active, chosen, strict=True))
            }
            for index in active:
                self._answers[index].seconds = seconds
            yield made
            active = self._drop_finished(active)

    def _drop_finished(self, active: list[int]) -> list[int]:
        stay = [row for row, index in enumerate(active) if not self._answers[index].finish]
        if stay and len(stay) < len(active):
            self._decoder.keep(stay)
            self._sampler.keep(stay)
        return [active[row] for row in stay]

    def generations(self) -> list[Generation]:
        """The answers so far."""
        return [
            Generation(
                prompt_tokens=len(answer.prompt),
                tokens=tuple(answer.tokens),
                text="".join(token.text for token in answer.tokens),
                layers=self._depth,
                seconds=answer.seconds,
                prefill_seconds=self._prefill_seconds,
                finish=answer.finish,
            )
            for answer in self._answers
        ]
