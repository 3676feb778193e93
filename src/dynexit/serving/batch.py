"""Texts decoded together, each in a row of one decoder; they come and go between tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from dynexit.errors import UserError
from dynexit.inference.answer import Answer
from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import sample_each
from dynexit.inference.step import Step
from dynexit.models import Model
from dynexit.serving.depths import Thresholds
from dynexit.serving.limits import Limits
from dynexit.serving.order import Event, Failed, Logprob, Made, Ticket, TokenLogprobs


class Text:
    """One choice of an order: its answer so far, and how many prompt tokens were read.

    ``waited`` is the seconds from its last step that gave tokens, or from the order, to the one
    before; ``admitted`` is when it got its row; ``deep`` texts run through all layers, unjudged.
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

    @property
    def over(self) -> bool:
        """Whether it has ended, or nobody waits for it."""
        return self.ticket.cancelled or bool(self.answer.finish)

    def note(self, now: float) -> None:
        """Tokens have come."""
        self.waited, self._made_at = now - self._made_at, now


class Batch:
    """The rows of a decoder with ``limits.max_batch`` of them. A step computes only those with
    a text."""

    def __init__(self, decoder: Decoder, limits: Limits) -> None:
        self._decoder = decoder
        self._limits = limits
        self._texts: dict[int, Text] = {}

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> Iterable[Text]:
        return self._texts.values()

    def admit(self, text: Text, thresholds: Thresholds | None) -> None:
        """Give a text the first free row, with thresholds of its own (None: the policy's)."""
        row = next(r for r in range(self._limits.max_batch) if r not in self._texts)
        self._texts[row] = text
        text.admitted = time.perf_counter()
        text.deep = thresholds is not None and min(thresholds) > 1
        self._decoder.set_thresholds(row, thresholds)
        text.ticket.sampler.see(text.choice, text.answer.prompt)

    def free(self) -> None:
        """Clear the rows of texts that are over."""
        for row in [row for row, text in self._texts.items() if text.over]:
            del self._texts[row]
            self._clear(row)

    def _clear(self, row: int) -> None:
        self._decoder.clear(row)

    @property
    def decoding(self) -> bool:
        """Whether any text has read its prompt and waits for tokens."""
        return any(text.unread <= 0 for text in self._texts.values())

    def read(self, budget: int) -> None:
        """Read so many prompt tokens, shared out evenly among the texts that have any left."""
        reading = sorted(row for row, text in self._texts.items() if text.unread > 0)
        if not reading:
            return
        share = max(1, budget // len(reading))
        parts = []
        for text in (self._texts[row] for row in reading):
            end = text.read + min(share, text.unread)
            parts.append(text.answer.prompt[text.read : end])
            text.read = end
        self._decoder.prefill(parts, share, reading)

    def step(self) -> list[tuple[Text, list[Event]]]:
        """What comes next of every text that has read its prompt."""
        rows = sorted(row for row, text in self._texts.items() if text.unread <= 0)
        made = self._advance({row: self._texts[row] for row in rows}) if rows else []
        now = time.perf_counter()
        for text, events in made:
            if events:
                text.note(now)
        return made

    def _advance(self, texts: Mapping[int, Text]) -> list[tuple[Text, list[Event]]]:
        """The next token of each of these texts by their rows, which ascend."""
        deep = [row for row, text in texts.items() if text.deep]
        ids = [text.answer.last for text in texts.values()]
        return self._choose(list(texts.values()), self._decoder.step(ids, list(texts), deep))

    def _choose(self, texts: Sequence[Text], step: Step) -> list[tuple[Text, list[Event]]]:
        """The tokens of these texts, of which a step was."""
        tokens = sample_each(step.logits, [(text.ticket.sampler, text.choice) for text in texts])
        return [
            (text, [_event(text, token, step, at)])
            for at, (text, token) in enumerate(zip(texts, tokens, strict=True))
        ]


def _event(text: Text, token: int | UserError, step: Step, at: int) -> Event:
    """What came of a text that was number ``at`` of a step."""
    if isinstance(token, UserError):  # logits that are no numbers
        return Failed(str(token))
    pushed = text.answer.push(token, step, at)
    likely = _logprobs(step.logits[at : at + 1], token, text.ticket.order.top_logprobs)
    return Made(text.choice, pushed, text.answer.finish, likely)


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
