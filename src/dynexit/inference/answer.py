"""One answer as it grows: tokens to text, and the reasons for which it ends."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.inference.generation import Drafting, GeneratedToken, Generation
from dynexit.inference.step import Step
from dynexit.inference.text import TextStream
from dynexit.models import Model

_TAIL = 8  # tokens in which a stop string may have begun, at least


class Answer:
    """One text in the making: the tokens after ``prompt``, ``budget`` at most, and their text.

    ``finish`` is empty until it is ``eos``, ``stop`` or ``length``.
    """

    def __init__(self, prompt: list[int], budget: int, model: Model, stop: tuple[str, ...]) -> None:
        self.prompt = prompt
        self.budget = budget
        self.tokens: list[GeneratedToken] = []
        self.finish = ""
        self.seconds = 0.0
        self._eos = model.eos_ids
        self._stop = stop
        self._decode = model.tokenizer.decode
        self._text = TextStream(model.tokenizer, stop)

    def generation(
        self, layers: int, prefill_seconds: float, drafting: Drafting | None = None
    ) -> Generation:
        """The answer so far, of a model of so many layers."""
        return Generation(
            prompt_tokens=len(self.prompt),
            tokens=tuple(self.tokens),
            text="".join(token.text for token in self.tokens),
            layers=layers,
            seconds=self.seconds,
            prefill_seconds=prefill_seconds,
            finish=self.finish,
            drafting=drafting,
        )

    @property
    def last(self) -> int:
        return self.tokens[-1].id if self.tokens else self.prompt[-1]

    @property
    def room(self) -> int:
        """Tokens that may still come."""
        return self.budget - len(self.tokens)

    def would_end(self, tokens: Sequence[int]) -> bool:
        """Whether the answer would be over with these tokens, which might come next."""
        if tokens[-1] in self._eos:
            return True
        if not self._stop:
            return False
        tail = [token.id for token in self.tokens[-_TAIL:]]
        text = self._decode([*tail, *tokens])
        return any(stop in text for stop in self._stop)

    def push(self, token: int, step: Step, row: int) -> GeneratedToken:
        """Take the next token, made by a step; ``finish`` says whether it was the last."""
        return self.take(
            token,
            step.exit_layers[row],
            step.scores[row],
            step.catch_up[row],
            step.idle_readouts[row],
            step.invalid_scores[row],
        )

    def take(
        self,
        token: int,
        exit_layer: int,
        score: float | None,
        catch_up: int = 0,
        idle_readouts: int = 0,
        invalid_scores: int = 0,
    ) -> GeneratedToken:
        """Take the next token; ``finish`` says whether it was the last."""
        text = "" if token in self._eos else self._text.push(token)
        if token in self._eos:
            self.finish = "eos"
        elif self._text.stopped:
            self.finish = "stop"
        elif len(self.tokens) + 1 >= self.budget:
            self.finish = "length"
        if self.finish:
            text += self._text.finish()
        made = GeneratedToken(
            token, text, exit_layer, score, catch_up, idle_readouts, invalid_scores
        )
        self.tokens.append(made)
        return made
