"""Texts decoded together, each in a row of one decoder; they come and go between tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable

from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.answer import Answer
from dynexit.inference.decoder import Decoder
from dynexit.models import Model
from dynexit.serving.depths import Thresholds
from dynexit.serving.limits import Limits
from dynexit.serving.order import Event, Failed, Logprob, Made, Ticket, TokenLogprobs


class Text:
    """One choice of an order: its answer so far, and how many prompt tokens were read.

    ``waited`` is the seconds that its last token took since the one before, or since the order;
    ``admitted`` is when it got its row; ``deep`` texts run through all layers, unjudged.
    """

    def __init__(self, ticket: Ticket, choice: int, model: Model) -> None:
        settings, prompt = ticket.order.settings, list(ticket.order.prompts[choice])
        self.ticket = ticket
        self.choice = choice
        self.answer = Answer(prompt, settings.max_new_tokens, model, settings.stop)
        self.read = 0
        self.waited = 0.0
        self.deep = False
        self.admitted = 0.0
        self._made_at = ticket.since

    @property
    def unread(self) -> int:
        """Prompt tokens to read before the last one, which the first step feeds."""
        return len(self.answer.prompt) - 1 - self.read

    def note(self, now: float) -> None:
        """A token has come."""
        self.waited, self._made_at = now - self._made_at, now


class Batch:
    """At most ``limits.max_batch`` texts, of which each step computes only those that are there."""

    def __init__(self, model: Model, policy: ExitPolicy | None, limits: Limits) -> None:
        capacity = limits.context(model.backbone.config.max_positions)
        self._decoder = Decoder(model.backbone, limits.max_batch, capacity, policy)
        self._limits = limits
        self._texts: dict[int, Text] = {}

    @property
    def free(self) -> int:
        return self._limits.max_batch - len(self._texts)

    @property
    def texts(self) -> Iterable[Text]:
        return self._texts.values()

    def admit(self, text: Text, thresholds: Thresholds | None) -> None:
        """Give a text the first free row, with thresholds of its own (None: the policy's)."""
        row = next(r for r in range(self._limits.max_batch) if r not in self._texts)
        self._texts[row] = text
        text.admitted = time.perf_counter()
        text.deep = thresholds is not None and min(thresholds) > 1
        self._decoder.clear(row, thresholds)
        text.ticket.sampler.see(text.choice, text.answer.prompt)

    def drop(self, unwanted: Iterable[Text]) -> None:
        """Free the rows of these texts."""
        gone = set(map(id, unwanted))
        self._texts = {row: text for row, text in self._texts.items() if id(text) not in gone}

    def read(self) -> None:
        """Read some prompt tokens, shared out evenly among the texts that have any left."""
        reading = sorted(row for row, text in self._texts.items() if text.unread > 0)
        if not reading:
            return
        limits = self._limits
        budget = limits.chunk if len(reading) == len(self._texts) else limits.busy_chunk
        share = max(1, budget // len(reading))
        parts = []
        for text in (self._texts[row] for row in reading):
            end = text.read + min(share, text.unread)
            parts.append(text.answer.prompt[text.read : end])
            text.read = end
        self._decoder.prefill(parts, share, reading)

    def step(self) -> list[tuple[Text, Event]]:
        """The next token of every text that has read its prompt; those that end leave."""
        rows = sorted(row for row, text in self._texts.items() if text.unread <= 0)
        if not rows:
            return []
        texts = [self._texts[row] for row in rows]
        deep = [row for row in rows if self._texts[row].deep]
        step = self._decoder.step([text.answer.last for text in texts], rows, deep)
        made: list[tuple[Text, Event]] = []
        for at, text in enumerate(texts):
            logits = step.logits[at : at + 1]
            try:
                token = text.ticket.sampler.sample(logits, [text.choice])[0]
            except UserError as error:  # logits that are no numbers
                made.append((text, Failed(str(error))))
                continue
            pushed = text.answer.push(token, step, at)
            likely = _logprobs(logits, token, text.ticket.order.top_logprobs)
            made.append((text, Made(text.choice, pushed, text.answer.finish, likely)))
        now = time.perf_counter()
        for text in texts:
            text.note(now)
        self.drop(text for text, event in made if isinstance(event, Failed) or event.finish)
        return made


def _logprobs(logits: Tensor, token: int, count: int | None) -> TokenLogprobs | None:
    """Log probabilities of a token and of the ``count`` best ones, from logits [1, vocab]."""
    if count is None:
        return None
    every = logits[0].float().log_softmax(-1)
    top: tuple[Logprob, ...] = ()
    if count:
        values, ids = every.topk(min(count, len(every)))
        top = tuple(map(Logprob, ids.tolist(), values.tolist()))
    return TokenLogprobs(Logprob(token, float(every[token])), top)
