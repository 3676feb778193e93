"""Closed-book questions: one fact in one wording."""

from __future__ import annotations

import random

from dynexit.reference.corpus.facts import Fact, facts
from dynexit.reference.corpus.item import TRIVIA, Item, Turn
from dynexit.reference.corpus.phrasings import TRIVIA_PHRASINGS, fill


def trivia_item(fact: Fact, template: str) -> Item:
    """The item that asks for a fact."""
    question = fill(template, fact.subject)
    turn = Turn(question, fact.answer, fact.aliases, kind=fact.relation)
    return Item(TRIVIA, fact.relation, "", (turn,), fact.level)


def training_trivia(rng: random.Random) -> Item:
    """A fact and a taught wording, both uniform."""
    fact = rng.choice(facts())
    return trivia_item(fact, rng.choice(TRIVIA_PHRASINGS[fact.relation].taught))


def all_test_trivia() -> list[Item]:
    """Every fact in every held-out wording."""
    return [
        trivia_item(fact, template)
        for fact in facts()
        for template in TRIVIA_PHRASINGS[fact.relation].held_out
    ]
