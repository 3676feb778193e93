"""The shortest stories, for the first lessons in finding an answer.

Among few sentences, finding the one that answers a question is soon learnt, and long stories are
then more of the same. They are for training alone.
"""

from __future__ import annotations

import random

from dynexit.reference.corpus import story_words as words
from dynexit.reference.corpus.item import STORIES, Item
from dynexit.reference.corpus.stories import Conversation
from dynexit.reference.corpus.story_queries import queries
from dynexit.reference.corpus.story_telling import choose_cast
from dynexit.reference.corpus.story_world import Narrator

LEVEL = 2  # no question of two steps, and none that refers back
QUESTIONS = 6


def training_primer(rng: random.Random) -> Item:
    """A story of two to seven sentences, with up to six questions about it."""
    teller = Narrator(rng, choose_cast(rng, LEVEL, test=False))
    _tell(teller, rng)
    options = [q for q in queries(teller.cast, teller.world, rng) if q.level <= LEVEL]
    talk = Conversation(rng, teller.cast, LEVEL, test=False)
    for query in rng.sample(options, min(QUESTIONS, len(options))):
        talk.ask(query)
    return Item(STORIES, "primer", " ".join(teller.sentences), tuple(talk.turns), LEVEL)


def _tell(teller: Narrator, rng: random.Random) -> None:
    cast = teller.cast
    jobs, colours = (rng.sample(pool, len(cast.people)) for pool in (words.JOBS, words.COLOURS))
    for number, who in enumerate(cast.people):
        if number < len(cast.objects) and rng.random() < 0.6:
            teller.own(who, cast.objects[number], colours[number])
        elif rng.random() < 0.5:
            teller.work(who, jobs[number])
        teller.be(who, rng.choice(cast.places))
    if rng.random() < 0.5:
        options = teller.possible_actions((rng.choice(words.CONTAINERS),))
        rng.choices([act for _, act in options], [weight for weight, _ in options])[0]()
