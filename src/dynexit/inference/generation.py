"""What decoding gives back: the tokens, and for each where it left and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class GeneratedToken:
    """One token of an answer. It was known after ``exit_layer`` layers; ``score`` is the judge's
    at that exit, or at the last exit where none was taken, and None without a judge. ``catch_up``
    counts layers run in its step for earlier tokens (recompute), as tokens times layers;
    ``idle_readouts`` readouts of the vocabulary that judges asked for beside its own, and
    ``invalid_scores`` scores that were no numbers, for which it stayed."""

    id: int
    text: str
    exit_layer: int
    score: float | None
    catch_up: int = 0
    idle_readouts: int = 0
    invalid_scores: int = 0


@dataclass(frozen=True)
class Drafting:
    """What drafting and verifying one answer took. Of ``drafts`` tokens proposed by exits
    ``accepted`` stand in the answer; ``cycles`` verifications had any. ``fed`` tokens went through
    layers, those that fell among them; layer l was read ``passes[l - 1]`` times. ``draft_seconds``
    is the time of the steps that made a draft, the rest of the answer's is verification.
    ``invalid_scores`` were no numbers, and drafted nothing."""

    drafts: int
    accepted: int
    cycles: int
    fed: int
    passes: tuple[int, ...]
    draft_seconds: float
    invalid_scores: int = 0

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the drafts, 0 without any."""
        return self.accepted / self.drafts if self.drafts else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """Drafts accepted at a time."""
        return self.accepted / self.cycles if self.cycles else 0.0


@dataclass(frozen=True)
class Generation:
    """One answer. ``layers`` is the backbone's depth; ``seconds`` the time of its decoding steps,
    ``prefill_seconds`` that of the prompt; ``finish`` is ``stop``, ``length`` or ``eos``.
    ``drafting`` is there in lossless mode; the exit layer of a token is then that of its draft."""

    prompt_tokens: int
    tokens: tuple[GeneratedToken, ...]
    text: str
    layers: int
    seconds: float
    prefill_seconds: float
    finish: str
    drafting: Drafting | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Generation:
        """The answer that ``dataclasses.asdict`` made a row of; what else is in it is left out.
        Anything but an answer is a ``KeyError``, ``TypeError``, ``ValueError`` or
        ``AttributeError``."""
        values = {name: row[name] for name in cls.__dataclass_fields__ if name != "drafting"}
        values["tokens"] = tuple(GeneratedToken(**token) for token in values["tokens"])
        if (drafting := row.get("drafting")) is not None:
            values["drafting"] = Drafting(**drafting | {"passes": tuple(drafting["passes"])})
        answer = cls(**values)
        answer._check()
        return answer

    def _check(self) -> None:
        """Raise ``ValueError`` unless all that is counted is a count, and texts are texts."""
        counts, texts, measured = [self.prompt_tokens, self.layers], [self.text, self.finish], []
        measured += [self.seconds, self.prefill_seconds]
        for token in self.tokens:
            counts += [token.id, token.exit_layer, token.catch_up]
            counts += [token.idle_readouts, token.invalid_scores]
            texts.append(token.text)
            measured.append(0.0 if token.score is None else token.score)
        if (drafting := self.drafting) is not None:
            counts += [drafting.drafts, drafting.accepted, drafting.cycles, drafting.fed]
            counts += [drafting.invalid_scores, *drafting.passes]
            measured.append(drafting.draft_seconds)
        sound = all(type(count) is int and 0 <= count < 2**31 for count in counts)
        sound = sound and all(isinstance(text, str) for text in texts)
        if not (sound and all(isfinite(number) for number in measured)):
            raise ValueError("a field of the answer has no value that an answer has")

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def mean_exit_layer(self) -> float:
        if not self.tokens:
            return float(self.layers)
        return sum(token.exit_layer for token in self.tokens) / len(self.tokens)

    @property
    def layer_saving(self) -> float:
        """1 - mean layers run until a token was known / layers; see ``catch_up`` for the rest.

        With drafts every token is known at the last layer only, and what is saved are readings:
        1 - readings of a layer / (tokens times layers).
        """
        if self.drafting is not None and self.tokens:
            return 1.0 - sum(self.drafting.passes) / (len(self.tokens) * self.layers)
        return 1.0 - self.mean_exit_layer / self.layers

    @property
    def invalid_scores(self) -> int:
        """Scores of the judge that were no numbers; at such an exit a token stays."""
        drafted = 0 if self.drafting is None else self.drafting.invalid_scores
        return drafted + sum(token.invalid_scores for token in self.tokens)

    @property
    def tokens_per_second(self) -> float:
        return len(self.tokens) / self.seconds if self.seconds > 0 else 0.0
