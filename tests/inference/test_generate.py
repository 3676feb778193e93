"""Whole answers: batches, streaming, ends, and bad prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers

from dynexit.errors import UserError
from dynexit.inference.generate import generate, stream
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Backbone, BackboneConfig, Model
from dynexit.models.config import AttentionConfig, LayerConfig, MlpConfig, RopeConfig
from dynexit.models.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random model over bytes."""
    directory: Path = tmp_path_factory.mktemp("bytes")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = RawTokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.save(str(directory / "tokenizer.json"))
    torch.manual_seed(1)
    attention = AttentionConfig(4, 2, 8, 8**-0.5, RopeConfig(10000.0, 8, 64))
    layers = (LayerConfig(attention, MlpConfig(64)),) * 3
    backbone = Backbone(BackboneConfig("tiny", 256, 32, layers, 1e-5, False, max_positions=64))
    backbone = backbone.eval().requires_grad_(False)
    return Model("tiny", directory, backbone, load_tokenizer(directory), (), {})


def test_batch_equals_single(model: Model) -> None:
    prompts = ["Hello", "A longer prompt than that", "x"]
    settings = GenerationSettings(max_new_tokens=12)
    together = generate(model, prompts, settings)
    for prompt, answer in zip(prompts, together, strict=True):
        alone = generate(model, prompt, settings)[0]
        assert answer.ids == alone.ids
        assert answer.text == alone.text
        assert answer.finish == "length"


def test_a_prompt_may_be_token_ids(model: Model) -> None:
    settings = GenerationSettings(max_new_tokens=6)
    by_text = generate(model, ["Hello", "Other"], settings)
    by_ids = generate(model, [model.tokenizer.encode("Hello"), "Other"], settings)
    assert [answer.ids for answer in by_ids] == [answer.ids for answer in by_text]
    with pytest.raises(UserError, match="prompt is empty"):
        generate(model, [[]], settings)


def test_stream_gives_the_same_answer(model: Model) -> None:
    settings = GenerationSettings(max_new_tokens=10)
    live = stream(model, "Hello", settings)
    pieces = [token.text for token in live]
    assert len(pieces) == 10
    whole = generate(model, "Hello", settings)[0]
    assert "".join(pieces) == whole.text == live.result.text


def test_rows_end_at_their_own_time(model: Model) -> None:
    settings = GenerationSettings(max_new_tokens=12)
    free = generate(model, ["Hello", "Other words"], settings)
    first = free[0].ids[3]
    ending = Model(
        "tiny", model.directory, model.backbone, model.tokenizer, (first,), model.generation
    )
    answers = generate(ending, ["Hello", "Other words"], settings)
    assert answers[0].finish == "eos"
    assert answers[0].ids == free[0].ids[: free[0].ids.index(first) + 1]
    cut = free[1].ids.index(first) + 1 if first in free[1].ids else 12
    assert answers[1].ids == free[1].ids[:cut]


def test_stop_string_ends_the_answer_and_is_cut(model: Model) -> None:
    free = generate(model, "Hello", GenerationSettings(max_new_tokens=12))[0]
    stop = free.text[4:6]
    answer = generate(model, "Hello", GenerationSettings(max_new_tokens=12, stop=(stop,)))[0]
    assert answer.finish == "stop"
    assert answer.text == free.text[: free.text.index(stop)]


def test_answer_ends_where_the_context_does(model: Model) -> None:
    answer = generate(model, "y" * 60, GenerationSettings(max_new_tokens=50))[0]
    assert len(answer.ids) == 4
    assert answer.finish == "length"


def test_sampling_is_reproducible_and_depends_on_the_seed(model: Model) -> None:
    def ids(seed: int) -> list[int]:
        settings = GenerationSettings(max_new_tokens=16, temperature=1.0, seed=seed)
        return generate(model, "Hello", settings)[0].ids

    assert ids(1) == ids(1) != ids(2)


def test_repetition_penalty_changes_the_answer(model: Model) -> None:
    plain = generate(model, "Hello", GenerationSettings(max_new_tokens=20))[0]
    harsh = GenerationSettings(max_new_tokens=20, repetition_penalty=1e6)
    ids = generate(model, "Hello", harsh)[0].ids
    assert len(set(plain.ids)) < len(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("prompt", "message"), [("", "prompt is empty"), ("y" * 64, "64 tokens.*holds 64")]
)
def test_bad_prompts(model: Model, prompt: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(model, prompt)


def test_nan_logits_are_told(model: Model) -> None:
    broken = Backbone(model.backbone.config).eval().requires_grad_(False)
    broken.norm.weight.fill_(float("nan"))
    sick = Model("tiny", model.directory, broken, model.tokenizer, (), {})
    with pytest.raises(UserError, match=r"not finite|NaN|nan"):
        generate(sick, "Hello")
