"""One answer as it grows: tokens to text, and the reasons for which it ends."""

from __future__ import annotations

from dynexit.inference.decoder import Step
from dynexit.inference.generation import GeneratedToken
from dynexit.inference.text import TextStream
from dynexit.models import Model


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
        self._text = TextStream(model.tokenizer, stop)

    @property
    def last(self) -> int:
        return self.tokens[-1].id if self.tokens else self.prompt[-1]

    def push(self, token: int, step: Step, row: int) -> GeneratedToken:
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
            token,
            text,
            step.exit_layers[row],
            step.scores[row],
            step.catch_up[row],
            step.idle_readouts[row],
        )
        self.tokens.append(made)
        return made
