"""Streaming text: the pieces are the whole, characters stay whole, stop strings never show."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from dynexit.inference.text import Detokenizer, StopCutter, TextStream

TEXTS = [
    "the cat sat on the mat, and the dog ran to the cat",
    "größe naïve façade — “quoted” 日本語のテキスト 日本 русский текст 🙂🙃 👩‍👩‍👧 end.",
]


def byte_level() -> Tokenizer:
    """A small byte-level BPE, as GPT-2's and Llama 3's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """A small BPE with byte fallback and spaces as in Llama 2 and Mistral."""
    pieces = ["<unk>", "<s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghost", "é"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


class Counting:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.decoded = 0

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


BYTE_LEVEL, FALLBACK = byte_level(), byte_fallback()
KINDS = pytest.mark.parametrize("kind", [BYTE_LEVEL, FALLBACK], ids=["byte-level", "fallback"])
CHARACTERS = st.text(
    st.sampled_from("abcdefghost é日本🙂🙃\u200d\n") | st.characters(codec="utf-8"), max_size=40
)


def pieces(detokenizer: Detokenizer | TextStream, ids: Sequence[int]) -> list[str]:
    return [*(detokenizer.push(token) for token in ids), detokenizer.finish()]


@KINDS
@settings(max_examples=150, deadline=None)
@given(text=CHARACTERS)
def test_pieces_are_the_text(kind: Tokenizer, text: str) -> None:
    tokenizer = Counting(kind)
    # a decoder's own sign for bytes that are no character; byte-level has its test below
    ids = tokenizer.encode(text.replace("\ufffd", ""))
    given_out = pieces(Detokenizer(tokenizer), ids)
    assert "".join(given_out) == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in given_out)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=80))
def test_any_bytes_and_special_tokens(ids: list[int]) -> None:
    tokenizer = Counting(BYTE_LEVEL)
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.sampled_from([2 + 0x80, 2 + 0xE2, 2 + 0x82, 2 + 0xF0, 1]), max_size=60))
def test_invalid_bytes_with_fallback_neither_fail_nor_wait_forever(ids: list[int]) -> None:
    detokenizer = Detokenizer(Counting(FALLBACK))
    given_out = pieces(detokenizer, ids)
    if len(ids) > 40 and 1 not in ids:
        assert "".join(given_out[:-1])


@KINDS
def test_a_character_comes_whole_and_at_once(kind: Tokenizer) -> None:
    tokenizer = Counting(kind)
    ids = tokenizer.encode("🦉🦉")
    given_out = pieces(Detokenizer(tokenizer), ids)
    assert [piece for piece in given_out if piece.strip()] == ["🦉", "🦉"]
    assert given_out[-1] == ""


@KINDS
def test_spaces_between_words_stay(kind: Tokenizer) -> None:
    tokenizer = Counting(kind)
    ids = tokenizer.encode("the  ghost  of  a  cat " * 5)
    special = kind.token_to_id("<s>")
    mixed = [special, *(t for token in ids for t in (token, special, special))]
    assert "".join(pieces(Detokenizer(tokenizer), mixed)) == tokenizer.decode(ids)


@KINDS
@pytest.mark.parametrize("text", ["cat " * 300, "🙂" * 200, "日本語" * 100])
def test_work_is_linear(kind: Tokenizer, text: str) -> None:
    tokenizer = Counting(kind)
    ids = tokenizer.encode(text)
    pieces(Detokenizer(tokenizer), ids)
    assert tokenizer.decoded < 40 * len(ids)


def test_work_is_linear_in_bytes_that_are_no_text() -> None:
    tokenizer = Counting(BYTE_LEVEL)
    ids = [tokenizer.encode("日")[0]] * 500
    assert "".join(pieces(Detokenizer(tokenizer), ids)) == tokenizer.decode(ids)
    assert tokenizer.decoded < 40 * len(ids)


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(st.lists(st.text("ab\n", max_size=5), max_size=12), STOPS)
def test_a_cut_does_not_depend_on_the_pieces(parts: list[str], stop: list[str]) -> None:
    text = "".join(parts)
    by_piece, by_character = StopCutter(stop), StopCutter(stop)
    first = "".join([*(by_piece.push(part) for part in parts), by_piece.finish()])
    second = "".join([*(by_character.push(c) for c in text), by_character.finish()])
    assert first == second
    assert by_piece.stopped == by_character.stopped == any(s in text for s in stop)
    assert text.startswith(first)
    if not by_piece.stopped:
        assert first == text


@given(st.text("ab\n", max_size=30), STOPS)
def test_only_what_may_begin_a_stop_string_is_held(text: str, stop: list[str]) -> None:
    cutter, shown, read = StopCutter(stop), "", ""
    for character in text:
        shown, read = shown + cutter.push(character), read + character
        if cutter.stopped:
            break
        held = max((n for s in stop for n in range(len(s)) if read.endswith(s[:n])), default=0)
        assert shown == read[: len(read) - held]
    assert not any(s in shown for s in stop)


def test_a_stop_string_over_many_tokens() -> None:
    tokenizer = Counting(BYTE_LEVEL)
    ids = tokenizer.encode("the cat sat\n\nQuestion: on the mat")
    stream = TextStream(tokenizer, ["\n\nQuestion", "###"])
    given_out = []
    for token in ids:
        given_out.append(stream.push(token))
        if stream.stopped:
            break
    assert "".join(given_out) + stream.finish() == "the cat sat"
    assert len(given_out) < len(ids)


def test_held_text_comes_when_it_is_no_stop_string() -> None:
    cutter = StopCutter(["END."])
    assert [cutter.push(c) for c in "an END!"] == ["a", "n", " ", "", "", "", "END!"]
    cutter = StopCutter(["END."])
    assert cutter.push("the EN") == "the "
    assert cutter.finish() == "EN"


def test_the_stop_string_complete_first_cuts() -> None:
    cutter = StopCutter(["abc", "b"])
    assert cutter.push("xabc") == "xa"
    assert cutter.stopped
    assert cutter.push("more") == ""


@settings(max_examples=100, deadline=None)
@given(text=CHARACTERS, stop=st.lists(st.text("aeo 日🙂", min_size=1, max_size=3), max_size=2))
def test_stream_of_tokens_with_stops(text: str, stop: list[str]) -> None:
    tokenizer = Counting(BYTE_LEVEL)
    stream = TextStream(tokenizer, stop)
    out = "".join(pieces(stream, tokenizer.encode(text)))
    assert text.startswith(out)
    assert not any(s in out for s in stop)
    assert stream.stopped == any(s in text for s in stop)
