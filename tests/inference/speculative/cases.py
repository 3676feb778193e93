"""Small models, a judge that decides at random, and a loop over ``Speculation``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from tests.inference.test_decoder import ATTENTION, VOCAB, backbone_of
from torch import Tensor

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.settings import Lossless
from dynexit.inference.speculative.speculation import Feed, Speculation
from dynexit.models import Backbone, Placement
from dynexit.models.config import Mamba2Config, MambaConfig, MixerConfig

CAPACITY = 64
# of sizes that our own kernels take
MAMBA2 = Mamba2Config(heads=4, head_dim=16, state=16, groups=2, conv_kernel=4, chunk=4)
ATTENDS = replace(ATTENTION, head_dim=16, scale=16**-0.5)
MIXERS: dict[str, list[MixerConfig]] = {
    "attention": [ATTENDS],
    "window": [replace(ATTENDS, window=5)],
    "mamba": [MambaConfig(48, 16, 4, 2)],
    "mamba2": [MAMBA2],
    "hybrid": [MAMBA2, ATTENDS],
}
KINDS = tuple(MIXERS)


class RandomJudge:
    """Scores at random, and remembers how many tokens of each row it has seen at each exit."""

    kind = "random"

    def __init__(self, layers: Sequence[int], seed: int) -> None:
        self.layers = tuple(layers)
        self._random = random.Random(seed)

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({"seen": torch.zeros(rows, len(self.layers))})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        pass

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        which = slice(None) if rows is None else rows
        state.tensors["seen"][which, exit] += 1
        count = evidence.hidden.shape[0]
        return torch.tensor([self._random.random() for _ in range(count)])

    def needs_logits(self) -> bool:
        return False

    def flops(self, exit: int) -> int:
        return 0

    def weight_bytes(self, exit: int) -> int:
        return 0


def model_of(kind: str, dtype: torch.dtype = torch.float64) -> Backbone:
    """A model whose early exits often agree with its last layer: later layers do little."""
    model = backbone_of(kind, MIXERS[kind], dtype)
    for block in model.blocks():
        block.scale = 0.2
    return model


def random_policy(seed: int, layers: tuple[int, ...] = (1, 2, 4)) -> ExitPolicy:
    thresholds = (0.4,) * len(layers)
    return ExitPolicy(RandomJudge(layers, seed), thresholds, skipped_state("recompute"))


def plain(
    model: Backbone, prompts: Sequence[Sequence[int]], tokens: int, settings: GenerationSettings
) -> tuple[list[list[int]], Decoder]:
    """Answers of the full model, each text alone (greedy), and the last text's decoder."""
    answers = []
    for prompt in prompts:
        decoder = Decoder(model, 1, CAPACITY)
        sampler = Sampler(settings, 1, VOCAB)
        decoder.prefill([prompt[:-1]])
        sampler.see(0, prompt)
        answer = [prompt[-1]]
        for _ in range(tokens):
            answer += sampler.sample(decoder.step([answer[-1]]).logits)
        answers.append(answer[1:])
    return answers, decoder


def speculate(
    model: Backbone,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    policy: ExitPolicy,
    settings: GenerationSettings,
    lossless: Lossless,
    ends: frozenset[int] = frozenset(),
) -> tuple[list[list[int]], Speculation]:
    """Answers of so many ``tokens`` each, or up to one of ``ends``."""
    sampler = Sampler(settings, len(prompts), VOCAB)
    drafting = draft_policy(model.config, policy, lossless)
    rows = len(prompts)
    made = Speculation(model, rows, CAPACITY, policy, lossless, drafting)
    made.decoder.prefill([prompt[:-1] for prompt in prompts])
    for row, prompt in enumerate(prompts):
        sampler.see(row, prompt)
    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(rows))

    def over(drafts: Sequence[int]) -> bool:
        return drafts[-1] in ends

    while active:
        feeds = {
            row: Feed(
                (answers[row] or [prompts[row][-1]])[-1],
                tokens[row] - len(answers[row]),
                over,
                sampler,
                row,
            )
            for row in active
        }
        for row, new in made.step(feeds).items():
            answers[row] += [one.token for one in new]
        active = [
            row
            for row in active
            if len(answers[row]) < tokens[row] and not ends & set(answers[row])
        ]
    return answers, made
