"""The texts that exits are trained on."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, overload

from dynexit.digests import file_digest
from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE
from dynexit.models import Model, Tokenizer
from dynexit.reference.corpus.item import prompt as prompt_of
from dynexit.reference.corpus.mixture import training_items


@dataclass(frozen=True)
class Sample:
    """A prompt for the model to answer; with an ``answer``, that text is followed instead.

    An empty prompt with an answer is a text judged from its first token on. Samples of a ``group``
    (turns of one conversation) are never divided between training and validation.
    """

    prompt: str
    answer: str | None = None
    group: int = 0


@dataclass(frozen=True)
class TokenSample:
    """The same as token ids; ``answer`` is None where the model shall give its own."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...] | None
    group: int


class TextFile(Sequence[Sample]):
    """The texts of a file, each read when it is asked for: of a file of any size, only the places
    of its lines are in memory. A text's group is its number here."""

    def __init__(self, path: Path, places: array[int], numbers: array[int]) -> None:
        self.path, self._places, self._numbers = path, places, numbers
        self.key: list[object] = [file_digest(path)]
        """What tells these samples from any others."""

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self._places[index])
            line = _decoded(file.readline(), self._numbers[index], self.path)
        where = f"{self.path}, line {self._numbers[index]}"
        return _reader(self.path)(line, where, index % len(self))

    def drawn(self, count: int, seed: int) -> TextFile:
        """``count`` of them at most, in an order of chance."""
        order = list(range(len(self)))
        random.Random(f"samples-{seed}").shuffle(order)
        chosen = order[:count]
        places = array("q", (self._places[i] for i in chosen))
        found = TextFile(self.path, places, array("q", (self._numbers[i] for i in chosen)))
        found.key = [*self.key, count, seed]
        return found


def load_samples(model: Model, data: Path | None, count: int, seed: int) -> Sequence[Sample]:
    """``count`` samples at most: of a file, or for a reference model of its training corpus."""
    samples: Sequence[Sample]
    if data is not None:
        samples = read_samples(data).drawn(count, seed)
    elif model.name.startswith(REFERENCE):
        samples = list(islice(reference_samples(seed), count))
    else:
        raise UserError(
            f"{model.name} has no training texts of its own; give a .txt or .jsonl file of prompts "
            "with --data"
        )
    if len(samples) < 2 or samples[0].group == samples[-1].group:
        raise UserError("one text is too few to train and validate on; give more prompts")
    return samples


def reference_samples(seed: int) -> Iterator[Sample]:
    """Endless prompts of the reference models' training texts; a conversation gives one for each
    of its turns, earlier turns answered as they should be."""
    for group, item in enumerate(training_items(seed)):
        for turn in range(len(item.turns)):
            yield Sample(prompt_of(item, turn), group=group)


def read_samples(path: Path) -> TextFile:
    """Samples of a file: ``.txt`` with a prompt on each line, or ``.jsonl`` with an object on each
    line that has ``prompt`` (and perhaps ``answer``) or ``text``. Blank lines are skipped; every
    line is looked at, so that mistakes are told before any work."""
    if path.suffix not in {".txt", ".jsonl"}:
        raise UserError(f"{path}: training texts are .txt or .jsonl files")
    read, places, numbers = _reader(path), array("q"), array("q")
    place = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = _decoded(raw, number, path)
                if line.strip():
                    read(line, f"{path}, line {number}", number)
                    places.append(place)
                    numbers.append(number)
                place += len(raw)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot read {path}: {reason}") from None
    if not places:
        raise UserError(f"{path} has no texts in it")
    return TextFile(path, places, numbers)


def tokenize(sample: Sample, tokenizer: Tokenizer, longest: int) -> TokenSample:
    """Token ids of a sample; of a prompt of more than ``longest`` tokens the last ones."""
    whole = tuple(tokenizer.encode(sample.prompt + (sample.answer or "")))
    length = len(whole)
    if sample.answer is not None:
        # where prompt and answer melt into one token, the answer begins with it
        alone = tuple(tokenizer.encode(sample.prompt)) if sample.prompt else ()
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False))
        length = max(1, min(sum(1 for _ in shared), len(whole) - 1))
    prompt, answer = whole[:length], whole[length : length + longest]
    if not prompt or (sample.answer is not None and not answer):
        beginning = (sample.prompt + (sample.answer or ""))[:40]
        raise UserError(f"the text {beginning!r} has too few tokens to learn from; leave it out")
    return TokenSample(prompt[-longest:], answer if sample.answer else None, sample.group)


def _reader(path: Path) -> Callable[[str, str, int], Sample]:
    return _plain if path.suffix == ".txt" else _record


def _decoded(raw: bytes, number: int, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8") from None


def _plain(line: str, where: str, group: int) -> Sample:
    return Sample(line.rstrip("\r\n"), group=group)


def _record(line: str, where: str, group: int) -> Sample:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); mend the line") from None
    if not isinstance(record, dict) or ("prompt" in record) == ("text" in record):
        raise UserError(f'{where}: must be an object with "prompt" or with "text"')
    if "text" in record:
        return Sample("", _field(record, "text", where), group)
    answer = _field(record, "answer", where) if record.get("answer") is not None else None
    return Sample(_field(record, "prompt", where), answer, group)


def _field(record: dict[str, Any], name: str, where: str) -> str:
    value = record[name]
    if not isinstance(value, str) or not value.strip():
        raise UserError(f'{where}: "{name}" must be text, and not blank')
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        raise UserError(f'{where}: "{name}" is not valid Unicode; mend the line') from None
    return value
