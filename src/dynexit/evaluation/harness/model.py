"""The model class that lm-evaluation-harness knows as ``dynexit``.

Texts become tokens, contexts are cut and windows roll as in the harness's own ``hf`` model, by the
harness's own helpers, so that at full depth both give the same results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm  # type: ignore[import-untyped]

from dynexit.evaluation.harness.arguments import (
    Numbers,
    batch_of,
    device_of,
    dtype_of,
    refuse_unknown,
    whole,
    wish,
)
from dynexit.evaluation.harness.decoding import Decoding, decoding
from dynexit.evaluation.harness.tally import Tallies, as_generation
from dynexit.evaluation.harness.texts import Pair, TextLM
from dynexit.exits.choice import choose
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.likelihood import Likelihood, log_likelihood_ids
from dynexit.inference.speculative import DraftPolicy, Lossless
from dynexit.inference.speculative.costs import draft_policy
from dynexit.models import Model, load_model

_SEEDS = 2**31


@register_model("dynexit")
class DynexitLM(TextLM):
    """A model of any family dynexit reads, at full depth or with exits.

    ``pretrained`` is a checkpoint's directory, hub id, ``reference:mistral``, ``reference:mamba2``
    or a loaded model; ``exits``, ``judge``, ``threshold``, ``exit_layer``, ``state`` and ``layers``
    mean what they do for ``dynexit generate``. With ``lossless`` exits only draft: answers are the
    full model's, and given continuations are read at full depth. ``max_length`` bounds the tokens
    the model sees (default: its context, or what its tokenizer says), ``max_gen_toks`` an answer
    whose task sets no length. Raises ``UserError`` for arguments that contradict one another or are
    not known.
    """

    def __init__(
        self,
        pretrained: str | Model,
        exits: str | None = None,
        judge: str | None = None,
        threshold: float | None = None,
        exit_layer: int | None = None,
        state: str = "recompute",
        layers: Numbers = None,
        lossless: bool = False,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        max_batch_size: int | None = None,  # the harness's own; see batch_of
        **unknown: Any,
    ) -> None:
        refuse_unknown(unknown)
        asked = wish(exits, judge, threshold, exit_layer, layers, state, lossless)
        self.batch_size = batch_of(batch_size)
        self.max_gen_toks = whole("max_gen_toks", max_gen_toks)
        if isinstance(pretrained, str):
            pretrained = load_model(pretrained, dtype_of(dtype), device_of(device))
        super().__init__(pretrained, max_length)
        self.choice = choose(self.model, asked)
        self._device = self.model.backbone.device
        self._tallies = Tallies(self.model.backbone.config)
        self._reading = None if lossless else self.choice.policy
        self._lossless = Lossless() if lossless else None
        self._drafting: DraftPolicy | None = None
        if self._lossless is not None and self.choice.policy is not None:
            config = self.model.backbone.config
            self._drafting = draft_policy(config, self.choice.policy, self._lossless)

    # Given continuations

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding gives it."""
        texts = [request.args for request in requests]
        pairs = [self.encode(*text) for text in texts]
        found: dict[int, tuple[float, bool]] = {}
        for number, likelihood in self._score(pairs, _tasks(requests), disable_tqdm):
            found[number] = (likelihood.total, likelihood.is_greedy)
            self.cache_hook.add_partial("loglikelihood", texts[number], found[number])
        return [found[number] for number in range(len(texts))]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of each whole text, in windows of ``max_length`` tokens."""
        texts = [request.args[0] for request in requests]
        windows = [(n, window) for n, text in enumerate(texts) for window in self._windows(text)]
        tasks = _tasks(requests)
        totals = [0.0] * len(texts)
        left = [sum(owner == n for owner, _ in windows) for n in range(len(texts))]
        pairs, owners = [pair for _, pair in windows], [owner for owner, _ in windows]
        names = [tasks[owner] for owner in owners]
        for number, likelihood in self._score(pairs, names, disable_tqdm):
            owner = owners[number]
            totals[owner] += likelihood.total
            left[owner] -= 1
            if not left[owner]:
                key = (texts[owner],)
                self.cache_hook.add_partial("loglikelihood_rolling", key, totals[owner])
        return totals

    def _windows(self, text: str) -> Iterator[Pair]:
        ids = self.tok_encode(text)
        windows = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
        return map(make_disjoint_window, windows)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(prompt, rest) for _, prompt, rest in requests]
        quiet = bool(options.get("disable_tqdm", False))
        found = dict(self._score(pairs, [""] * len(pairs), quiet))
        return [(found[n].total, found[n].is_greedy) for n in range(len(pairs))]

    def _score(
        self, pairs: Sequence[Pair], tasks: Sequence[str], quiet: bool
    ) -> Iterator[tuple[int, Likelihood]]:
        """Number and likelihood of each pair as they become known, the longest contexts first."""
        cut = [self.cut(*pair) for pair in pairs]
        order = sorted(range(len(cut)), key=lambda n: (-len(cut[n][0]), cut[n][0], -len(cut[n][1])))
        depth = self.model.backbone.depth
        with tqdm(total=len(order), desc="Scoring continuations", disable=quiet) as bar:
            for part in _parts(order, self.batch_size):
                some = [cut[n] for n in part]
                found = log_likelihood_ids(self.model, some, self._reading, len(part))
                answers = [as_generation(likelihood, depth) for likelihood in found]
                self._tallies.add("scored", [tasks[n] for n in part], answers, self._reading)
                yield from zip(part, found, strict=True)
                bar.update(len(part))

    # Answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """An answer to each context, without the string that ended it."""
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        texts: dict[int, str] = {}
        with tqdm(total=len(requests), desc="Generating", disable=disable_tqdm) as bar:
            for numbers in groups.values():
                how = self._decoding(requests[numbers[0]].args[1])
                prompts = {n: self.prompt(requests[n].args[0], how.max_new_tokens) for n in numbers}
                order = sorted(numbers, key=lambda n: -len(prompts[n]))
                for part in _parts(order, self.batch_size):
                    answers = self._answer([prompts[n] for n in part], how)
                    names = _tasks([requests[n] for n in part])
                    self._tallies.add("generated", names, answers, self.choice.policy)
                    for n, answer in zip(part, answers, strict=True):
                        texts[n] = self._text(answer, how)
                        self.cache_hook.add_partial("generate_until", requests[n].args, texts[n])
                    bar.update(len(part))
        return [texts[number] for number in range(len(requests))]

    def _decoding(self, given: dict[str, Any]) -> Decoding:
        return decoding(given, self.max_gen_toks, self.model.generation, self.special_tokens)

    def _answer(self, prompts: list[list[int]], how: Decoding) -> list[Generation]:
        settings = how.settings
        if not settings.greedy and settings.seed is None:  # drawn from what the harness has seeded
            settings = replace(settings, seed=int(torch.randint(_SEEDS, ())))
        end = () if self.eot_token_id is None else (self.eot_token_id,)
        model = replace(self.model, eos_ids=(*self.model.eos_ids, *end, *how.ends))
        policy = self.choice.policy
        return generate(model, prompts, settings, policy, self._lossless, self._drafting)

    def _text(self, answer: Generation, how: Decoding) -> str:
        text = self.tokenizer.decode(answer.ids, skip_special_tokens=True)
        return str(postprocess_generated_text(text, list(how.until), None))

    # What the results tell of the model

    def get_model_info(self) -> dict[str, Any]:
        """Goes to ``config`` of the harness's results: the model, and under ``dynexit`` the exits
        and what they saved, by task."""
        backbone, choice = self.model.backbone, self.choice
        return {
            "model_num_parameters": sum(p.numel() for p in backbone.parameters()),
            "model_dtype": str(backbone.dtype),
            "dynexit": {
                "family": backbone.config.family,
                "depth": backbone.depth,
                "judge": choice.judge,
                "state": choice.state,
                "threshold": choice.threshold,
                "lossless": self._lossless is not None,
                "layers": [] if choice.policy is None else list(choice.policy.layers),
                "tasks": self._tallies.describe(),
            },
        }


def _tasks(requests: Sequence[Instance]) -> list[str]:
    return [request.task_name or "" for request in requests]


def _parts(numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    for begin in range(0, len(numbers), size):
        yield list(numbers[begin : begin + size])
