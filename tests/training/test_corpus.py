"""Reading training texts, and turning them into tokens."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.reference.corpus.mixture import held_out_items as held_out_items
from dynexit.training.corpus import (
    Sample,
    load_samples,
    read_samples,
    reference_samples,
    tokenize,
)
from training.tiny import BOS, Letters, tiny_model


def test_text_file_is_a_prompt_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufefffirst\r\n\n  second é\n".encode())
    assert [s.prompt for s in read_samples(tmp_path / "a.txt")] == ["first", "  second é"]


def test_jsonl_with_prompts_answers_and_texts(tmp_path: Path) -> None:
    records = [{"prompt": "a"}, {"prompt": "b", "answer": "c"}, {"text": "d"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    samples = read_samples(tmp_path / "a.jsonl")
    assert [(s.prompt, s.answer) for s in samples] == [("a", None), ("b", "c"), ("", "d")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff\xfe\n", r"a\.txt, line 2: not UTF-8"),
        ("a.txt", b" \n\n", r"a\.txt has no texts"),
        ("a.csv", b"a", r"a\.csv: training texts are \.txt or \.jsonl"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt"\n', r"a\.jsonl, line 3: not valid JSON"),
        ("a.jsonl", b"[1]", r'line 1: must be an object with "prompt" or with "text"'),
        ("a.jsonl", b'{"prompt": "a", "text": "b"}', r"line 1: must be an object"),
        ("a.jsonl", b'{"prompt": 3}', r'line 1: "prompt" must be text'),
        ("a.jsonl", b'{"prompt": "a", "answer": " "}', r'line 1: "answer" must be text, and not'),
        ("a.jsonl", b'{"prompt": "\\ud800"}', r'line 1: "prompt" is not valid Unicode'),
        ("a.jsonl", b"[" * 100_000, r"line 1: not valid JSON"),
    ],
)
def test_mistakes_are_told_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_samples(tmp_path / name)


def test_missing_file_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none\.txt: no such file"):
        read_samples(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"no training texts of its own.*--data"):
        load_samples(tiny_model("mistral"), None, 5, 0)
    (tmp_path / "one.txt").write_text("one")
    with pytest.raises(UserError, match="one text is too few"):
        load_samples(tiny_model("mistral"), tmp_path / "one.txt", 5, 0)


def test_a_seed_chooses_and_numbers_the_samples(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{i}\n" for i in range(50)))
    model = tiny_model("mistral")
    first = load_samples(model, tmp_path / "a.txt", 10, 1)
    assert list(first) == list(load_samples(model, tmp_path / "a.txt", 10, 1))
    assert first != load_samples(model, tmp_path / "a.txt", 10, 2)
    assert [s.group for s in first] == list(range(10))


def test_tokens_of_prompts_answers_and_texts() -> None:
    letters = Letters()
    a, b, c = (letters.encode(x)[1] for x in "abc")
    free = tokenize(Sample("ab"), letters, 99)
    assert (free.prompt, free.answer) == ((BOS, a, b), None)
    followed = tokenize(Sample("ab", "c"), letters, 99)
    assert (followed.prompt, followed.answer) == ((BOS, a, b), (c,))
    text = tokenize(Sample("", "abc"), letters, 99)
    assert (text.prompt, text.answer) == ((BOS,), (a, b, c))
    assert tokenize(Sample("abc"), letters, 2).prompt == (b, c)


class Merging(Letters):
    """``ab`` is one token."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.replace("ab", "z"))


def test_an_answer_melting_into_its_prompt_begins_with_the_shared_token() -> None:
    z, c = Merging().encode("abc")[1:]
    sample = tokenize(Sample("ca", "bc"), Merging(), 99)
    assert (sample.prompt, sample.answer) == ((BOS, c), (z, c))


def test_too_few_tokens() -> None:
    class Bare(Letters):
        def encode(self, text: str) -> list[int]:
            return super().encode(text)[1:]

    with pytest.raises(UserError, match="'a' has too few tokens"):
        tokenize(Sample("", "a"), Bare(), 99)


def test_reference_samples_are_training_texts_turn_by_turn() -> None:
    stream = reference_samples(0)
    samples = [next(stream) for _ in range(400)]
    assert all(s.prompt.endswith(":") and s.answer is None for s in samples)
    turns = [s for s in samples if s.group == next(x.group for x in samples if "Story" in x.prompt)]
    assert len(turns) > 1
    assert all(b.prompt.startswith(a.prompt) for a, b in pairwise(turns))
    tests = {item.turns[0].question for item in held_out_items("trivia", 300)}
    assert not [s for s in samples if any(question in s.prompt for question in tests)]
