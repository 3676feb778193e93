"""From prompts to answers: the loop over decoding steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.decoder import Decoder
from dynexit.inference.generation import GeneratedToken, Generation
from dynexit.inference.prompts import Prompt, begin_answers, capacity
from dynexit.inference.reading import Reading, read_prompts
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.run import SpeculativeRun
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Model


def generate(
    model: Model,
    prompts: str | Sequence[Prompt],
    settings: GenerationSettings | None = None,
    policy: ExitPolicy | None = None,
    lossless: Lossless | None = None,
    drafting: DraftPolicy | None = None,
    reading: Reading | None = None,
) -> list[Generation]:
    """Answer every prompt, all of them in one batch; a single string gives a list of one.

    A prompt is a text or its token ids. Without a policy every token runs to the last layer. With
    ``lossless`` the policy's exits draft and the last layer decides, so that the answers are those
    of the full model; ``policy.state`` has no part in that. How far to draft is learned anew in
    each call, or goes on from call to call with a ``drafting`` of one's own (see
    ``speculative.costs.draft_policy``). The prompts' last token aside, a ``reading`` of them is
    gone on from where there is one.
    Raises ``UserError`` for an empty prompt or one beyond the model's context.
    """
    texts: list[Prompt] = [prompts] if isinstance(prompts, str) else list(prompts)
    wanted = settings or GenerationSettings()
    run = _run(model, texts, wanted, policy, lossless, drafting, reading)
    for _ in run.steps():
        pass
    return run.generations()


def _run(
    model: Model,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    policy: ExitPolicy | None,
    lossless: Lossless | None,
    drafting: DraftPolicy | None,
    reading: Reading | None = None,
) -> Run | SpeculativeRun:
    if lossless is None or policy is None:  # where no token leaves early, nothing is drafted
        return Run(model, prompts, settings, policy, reading)
    return SpeculativeRun(model, prompts, settings, policy, lossless, drafting, reading)


class Stream:
    """The tokens of one answer as they come; ``result`` is the whole when they have ended."""

    def __init__(self, run: Run | SpeculativeRun) -> None:
        self._run = run

    def __iter__(self) -> Iterator[GeneratedToken]:
        for step in self._run.steps():
            for tokens in step.values():
                yield from tokens

    @property
    def result(self) -> Generation:
        return self._run.generations()[0]


def stream(
    model: Model,
    prompt: Prompt,
    settings: GenerationSettings | None = None,
    policy: ExitPolicy | None = None,
    lossless: Lossless | None = None,
    drafting: DraftPolicy | None = None,
) -> Stream:
    """Answer one prompt token by token; the tokens' texts joined are the answer."""
    wanted = settings or GenerationSettings()
    return Stream(_run(model, [prompt], wanted, policy, lossless, drafting))


class Run:
    """The decoding of a batch of prompts; rows that end are dropped from it."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        policy: ExitPolicy | None,
        reading: Reading | None = None,
    ) -> None:
        backbone, rows = model.backbone, len(prompts)
        self._answers = begin_answers(model, prompts, settings)
        self._decoder = Decoder(backbone, rows, capacity(self._answers), policy)
        self._sampler = Sampler(settings, rows, backbone.config.vocab)
        self._reading, self._chunk = reading, settings.prefill_chunk
        self._depth = backbone.depth
        self._prefill_seconds = 0.0

    def steps(self) -> Iterator[dict[int, list[GeneratedToken]]]:
        """The new tokens of each step by the number of their prompt."""
        self._prefill_seconds = read_prompts(
            self._decoder, self._sampler, self._answers, self._chunk, self._reading
        )
        active = list(range(len(self._answers)))
        seconds = 0.0
        while active:
            begin = time.perf_counter()
            step = self._decoder.step([self._answers[index].last for index in active])
            chosen = self._sampler.sample(step.logits)
            seconds += time.perf_counter() - begin
            made = {
                index: [self._answers[index].push(token, step, row)]
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
        return [answer.generation(self._depth, self._prefill_seconds) for answer in self._answers]
