"""From prompts to answers that are the full model's, drafted by exits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.answer import Answer
from dynexit.inference.generation import Drafting, GeneratedToken, Generation
from dynexit.inference.prompts import Prompt, begin_answers, capacity
from dynexit.inference.reading import Reading, read_prompts
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import Lossless
from dynexit.inference.speculative.speculation import Feed, Made, Speculation, drafting_of
from dynexit.models import Model


class SpeculativeRun:
    """The decoding of a batch of prompts; rows that end are left out of later steps."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        policy: ExitPolicy,
        lossless: Lossless,
        drafting: DraftPolicy | None = None,
        reading: Reading | None = None,
    ) -> None:
        backbone, rows = model.backbone, len(prompts)
        self._answers = begin_answers(model, prompts, settings)
        self._sampler = Sampler(settings, rows, backbone.config.vocab)
        self._speculation = Speculation(
            backbone,
            rows,
            capacity(self._answers),
            policy,
            lossless,
            drafting or draft_policy(backbone.config, policy, lossless),
        )
        self._reading, self._chunk = reading, settings.prefill_chunk
        self._depth = backbone.depth
        self._prefill_seconds = 0.0
        self._draft_seconds = [0.0] * rows

    @property
    def trail_bytes(self) -> int:
        """Bytes held so that rows can go back."""
        return self._speculation.decoder.trail_bytes

    def steps(self) -> Iterator[dict[int, list[GeneratedToken]]]:
        """The new tokens of each step that has any, by the number of their prompt."""
        self._prefill_seconds = read_prompts(
            self._speculation.decoder, self._sampler, self._answers, self._chunk, self._reading
        )
        active, seconds = list(range(len(self._answers))), 0.0
        while active:
            begin = time.perf_counter()
            feeds = {row: self._feed(row) for row in active}
            made = self._speculation.step(feeds)
            took = time.perf_counter() - begin
            seconds += took
            for row in active:
                self._answers[row].seconds = seconds
                if not made[row]:
                    self._draft_seconds[row] += took
            tokens = {row: self._push(self._answers[row], made[row]) for row in active if made[row]}
            if tokens:
                yield tokens
            active = [row for row in active if not self._answers[row].finish]

    def _feed(self, row: int) -> Feed:
        answer = self._answers[row]
        return Feed(answer.last, answer.room, answer.would_end, self._sampler, row)

    def _push(self, answer: Answer, made: list[Made]) -> list[GeneratedToken]:
        """The tokens up to where the answer ends; what was verified beyond is left out."""
        tokens: list[GeneratedToken] = []
        for one in made:
            if not answer.finish:
                tokens.append(answer.take(one.token, one.exit_layer, one.score))
        return tokens

    def generations(self) -> list[Generation]:
        """The answers so far."""
        return [
            answer.generation(self._depth, self._prefill_seconds, self._drafted(row))
            for row, answer in enumerate(self._answers)
        ]

    def _drafted(self, row: int) -> Drafting:
        return drafting_of(self._speculation.tallies[row], self._draft_seconds[row])
