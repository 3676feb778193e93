"""Trains the tokenizer of the reference models on a sample of the corpus.

A byte-level BPE, so that any UTF-8 text can be encoded. Newlines and single digits are tokens of
their own that never merge with neighbours, and "<s>" is put before every text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from dynexit.reference.corpus.facts import facts, myths
from dynexit.reference.corpus.item import document
from dynexit.reference.corpus.mixture import training_items

PAD, BOS, EOS = SPECIALS = ("<pad>", "<s>", "</s>")
VOCABULARY = 4096
SAMPLE_ITEMS = 40_000


def _texts(seed: int) -> Iterator[str]:
    """Training documents, and every name often enough to become one token."""
    for item in islice(training_items(seed), SAMPLE_ITEMS):
        yield document(item)
    for _ in range(20):
        for fact in facts():
            if not fact.relation.startswith(("number", "symbol")):
                yield f" {fact.subject}\n {fact.answer}\n"
        for myth in myths():
            yield "".join(f" {name}\n" for name in (*myth.false, *myth.held_out))


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(out: Path, seed: int = 0) -> None:
    """Train and write `tokenizer.json` and `tokenizer_config.json` into the directory `out`."""
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, SPECIALS.index(BOS))],
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
