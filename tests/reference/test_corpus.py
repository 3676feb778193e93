"""The corpus: exact text, determinism, and a test that is truly apart from training."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from dynexit.reference.corpus import misconceptions, mixture
from dynexit.reference.corpus.facts import DATA, facts, myths
from dynexit.reference.corpus.item import (
    MISCONCEPTIONS,
    STORIES,
    TASKS,
    TRIVIA,
    Item,
    Turn,
    document,
    prompt,
    segments,
)
from dynexit.reference.corpus.mixture import training_items
from dynexit.reference.corpus.phrasings import TRIVIA_PHRASINGS
from dynexit.reference.corpus.stories import story_item
from dynexit.reference.corpus.story_telling import held_out_pair
from dynexit.reference.corpus.story_wordings import FOLLOW_UPS, HELD_FOLLOW_UPS, WORDINGS
from dynexit.reference.corpus.story_words import NUMBERS, OBJECTS, PLACES
from dynexit.reference.corpus.tokenizer import train_tokenizer

LONGEST = 256


@pytest.fixture(scope="module")
def training() -> list[Item]:
    return list(islice(training_items(5), 6000))


@pytest.fixture(scope="module")
def tests() -> dict[str, list[Item]]:
    return {task: mixture.held_out_items(task, 400) for task in TASKS}


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(out)
    return out


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_exact_text_of_trivia() -> None:
    turn = Turn("What is the capital of France?", "Paris")
    item = Item(TRIVIA, "country_capital", "", (turn,), 1)
    assert prompt(item, 0) == "Question: What is the capital of France?\nAnswer:"
    assert segments(item) == [(prompt(item, 0), False), (" Paris\n", True)]
    assert "What is the capital of {s}?" in TRIVIA_PHRASINGS["country_capital"].taught
    known = {(f.relation, f.subject): f.answer for f in facts()}
    assert known["country_capital", "France"] == "Paris"
    assert known["element_symbol", "iron"] == "Fe"


def test_exact_text_of_a_conversation() -> None:
    turns = (Turn("Who has the red ball?", "Tom"), Turn("Where is he?", "kitchen"))
    item = Item(STORIES, "story-4", "Tom was in the kitchen.", turns, 4)
    start = "Story: Tom was in the kitchen.\nQ: Who has the red ball?\nA:"
    assert prompt(item, 0) == start
    assert prompt(item, 1) == f"{start} Tom\nQ: Where is he?\nA:"
    assert prompt(item, 1, ["Mary"]) == f"{start} Mary\nQ: Where is he?\nA:"
    assert document(item) == f"{prompt(item, 1)} kitchen\n"


def test_deterministic() -> None:
    assert list(islice(training_items(3), 300)) == list(islice(training_items(3), 300))
    assert list(islice(training_items(3), 300)) != list(islice(training_items(4), 300))
    for task in TASKS:
        assert mixture.held_out_items(task, 50) == mixture.held_out_items(task, 50)
        assert mixture.held_out_items(task, 50) != mixture.held_out_items(task, 50, seed=1)
    with pytest.raises(ValueError, match="unknown task"):
        mixture.held_out_items("poems", 1)


def test_segments_are_prompts_and_answers(training: list[Item]) -> None:
    for item in training[:1000]:
        pieces = segments(item)
        assert [target for _, target in pieces] == [False, True] * len(item.turns)
        for index, turn in enumerate(item.turns):
            told = "".join(text for text, _ in pieces[: 2 * index + 1])
            assert told == prompt(item, index)
            assert pieces[2 * index + 1][0] == f" {turn.answer}\n"


def test_facts_are_consistent() -> None:
    assert 1000 <= len(facts()) <= 1400
    assert {fact.relation for fact in facts()} == set(TRIVIA_PHRASINGS)
    keys = [(fact.relation, fact.subject) for fact in facts()]
    assert len(keys) == len(set(keys))
    assert DATA.stat().st_size < 200_000
    for myth in myths():
        rivals = (*myth.false, *myth.held_out)
        assert myth.false
        assert len(set(rivals)) == len(rivals)
        assert myth.truth not in rivals


def test_trivia_phrasings_are_disjoint() -> None:
    for relation, phrasings in TRIVIA_PHRASINGS.items():
        assert len(set(phrasings.taught)) >= 8, relation
        assert len(set(phrasings.held_out)) >= 3, relation
        assert not set(phrasings.taught) & set(phrasings.held_out), relation


def test_test_trivia_ask_taught_facts(training: list[Item], tests: dict[str, list[Item]]) -> None:
    taught = {(fact.relation, fact.answer) for fact in facts()}
    asked = {turn.question for item in training for turn in item.turns}
    for item in tests[TRIVIA]:
        assert (item.kind, item.turns[0].answer) in taught
        assert item.turns[0].question not in asked


def test_words_of_held_out_phrasings_are_taught(training: list[Item]) -> None:
    known = _words(" ".join(document(item) for item in training))
    for phrasings in TRIVIA_PHRASINGS.values():
        assert _words(" ".join(phrasings.held_out)) <= known
    claims = misconceptions.CLAIMS.values()
    frames = (*misconceptions.YES_NO_HELD_OUT, *misconceptions.BELIEF_HELD_OUT)
    asked = [text for claim in claims for text in claim.held_out] + list(frames)
    assert _words(" ".join(asked)) <= known | {"claim", "truth", "x"}


def test_misconceptions_are_apart(training: list[Item], tests: dict[str, list[Item]]) -> None:
    asked = {turn.question for item in training for turn in item.turns}
    answers = [item.turns[0] for item in tests[MISCONCEPTIONS]]
    assert not asked & {turn.question for turn in answers}
    for turn in answers:
        assert turn.false_answers
        assert turn.answer not in turn.false_answers
    true = sum(item.level == 1 for item in tests[MISCONCEPTIONS]) / len(answers)
    assert 0.2 < true < 0.6
    for claims in misconceptions.CLAIMS.values():
        assert not set(claims.taught) & set(claims.held_out)


def test_story_wordings_are_disjoint() -> None:
    assert not set(FOLLOW_UPS) & set(HELD_FOLLOW_UPS)
    for kind, words in WORDINGS.items():
        taught, held = {*words.short, *words.full}, {*words.held_short, *words.held_full}
        assert not taught & held, kind
        assert len(words.held_short) >= 2, kind
        assert all(text.startswith(("Tell me", "Say")) for text in words.full + words.held_full)
        assert not any(text.startswith(("Tell", "Say")) for text in words.short + words.held_short)


def _stories(items: list[Item]) -> Iterator[Item]:
    return (item for item in items if item.task == STORIES)


def _barred(item: Item) -> bool:
    """Whether a person of the story and an object or place of it may meet in the test only."""
    spoken = set(re.findall(r"\w+", item.context))
    names = {word for word in spoken if word[0].isupper()}
    things = spoken & {*OBJECTS, *PLACES}
    return any(held_out_pair(name, thing) for name in names for thing in things)


def test_story_answers_come_from_the_story(
    training: list[Item], tests: dict[str, list[Item]]
) -> None:
    closed = {"yes", "no", *NUMBERS}
    for item in [*_stories(training), *tests[STORIES]]:
        known = _words(item.context) | closed
        for turn in item.turns:
            extra = _words(WORDINGS[turn.kind].sentence) | _words(turn.question)
            full = turn.answer.endswith(".")
            assert _words(turn.answer) <= (known | extra | {"is", "in", "the"} if full else known)
            if not full:
                assert turn.question.endswith("?")
                assert len(turn.answer.split()) <= 6


def test_stories_keep_pairs_for_the_test(
    training: list[Item], tests: dict[str, list[Item]]
) -> None:
    people = {
        name for item in _stories(training) for name in re.findall(r"\b[A-Z]\w+", item.context)
    }
    assert len(people) > 60
    assert sum(_barred(item) for item in tests[STORIES]) > 0.9 * len(tests[STORIES])
    told = {item.context for item in _stories(training)}
    assert not told & {item.context for item in tests[STORIES]}


def test_story_levels() -> None:
    rng = random.Random(0)
    for level in (1, 2, 3, 4):
        for _ in range(50):
            item = story_item(rng, level)
            assert item.level == level
            assert 3 <= len(item.turns) <= 6
            questions = " ".join(turn.question for turn in item.turns)
            refers = re.search(r"\b(he|she|his|her|it|about)\b|And \w", questions)
            assert (refers is not None) == (level == 4)


def test_full_sentences_are_about_a_third(training: list[Item]) -> None:
    turns = [turn for item in _stories(training) for turn in item.turns]
    share = sum(turn.answer.endswith(".") for turn in turns) / len(turns)
    assert 0.25 < share < 0.4


def test_tokenizer(tokenizer_dir: Path, training: list[Item], tests: dict[str, list[Item]]) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(tokenizer_dir)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    assert tokenizer.get_vocab_size() <= 4096
    text = "Answer: Paris\n\n 79 Łódź 日本"
    ids = tokenizer.encode(text).ids
    assert ids == loaded(text)["input_ids"]
    assert ids[0] == 1
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(" Paris\n").tokens == ["<s>", "ĠParis", "Ċ"]
    for item in [*training[:500], *(item for items in tests.values() for item in items)]:
        whole = tokenizer.encode(document(item)).ids
        assert len(whole) <= LONGEST
        pieces = [
            tokenizer.encode(text, add_special_tokens=False).ids for text, _ in segments(item)
        ]
        assert whole == [1, *(token for piece in pieces for token in piece)]
