"""Chooses a cast and lets things happen to it: a story with its final world, by level.

Some pairs of a name with an object, and of a name with a place, never meet in training; every
test story has such a pair.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from dynexit.reference.corpus import story_words as words
from dynexit.reference.corpus.story_world import Cast, Narrator, Person

HELD_OUT_ONE_IN = 10
Action = Callable[[], None]


def held_out_pair(name: str, word: str) -> bool:
    """Whether a name and an object or place may meet in the test only."""
    return zlib.crc32(f"{name} {word}".encode()) % HELD_OUT_ONE_IN == 0


def _choose(
    rng: random.Random, pool: Sequence[str], names: Sequence[str], number: int, test: bool
) -> tuple[str, ...]:
    """Words that no name of the cast is barred from; in the test one that the first name is."""
    open_ = [w for w in pool if not any(held_out_pair(name, w) for name in names)]
    barred = [w for w in pool if held_out_pair(names[0], w)]
    if not (test and barred):
        return tuple(rng.sample(open_, number))
    return (rng.choice(barred), *rng.sample(open_, number - 1))


def choose_cast(rng: random.Random, level: int, test: bool) -> Cast:
    """Two to four people, a few objects and places."""
    number = rng.choice((2, 2, 3) if level > 1 else (2, 3, 3, 4))
    pool = [(name, True) for name in words.MEN] + [(name, False) for name in words.WOMEN]
    people = tuple(Person(*pair) for pair in rng.sample(pool, number))
    names = [person.name for person in people]
    return Cast(
        people,
        _choose(rng, words.OBJECTS, names, rng.choice((2, 2, 3)), test),
        _choose(rng, words.PLACES, names, number + 1, test),
    )


def _traits(teller: Narrator, own: bool) -> list[list[Action]]:
    """For each person, what could be told of them; nothing is shared by two people."""
    rng, cast = teller.rng, teller.cast
    people = cast.people
    jobs, pets, likes, things, called = (
        rng.sample(pool, len(people))
        for pool in (words.JOBS, words.PETS, words.LIKES, words.THINGS, words.PET_NAMES)
    )
    moods = rng.sample(words.REASONS, len(people))
    colours = rng.sample(words.COLOURS, len(cast.objects))
    told: list[list[Action]] = []
    for i, who in enumerate(people):
        feeling, reason = (rng.choice(options) for options in moods[i])
        number = rng.randint(2, 9)
        lost = rng.randint(1, number - 1) if rng.random() < 0.5 else 0
        facts: list[Action] = [
            partial(teller.work, who, jobs[i]),
            partial(teller.keep, who, pets[i], called[i]),
            partial(teller.like, who, likes[i]),
            partial(teller.feel, who, feeling, reason),
            partial(teller.buy, who, things[i], number, lost),
        ]
        rng.shuffle(facts)
        if own and i < len(cast.objects):
            facts.insert(0, partial(teller.own, who, cast.objects[i], colours[i]))
        told.append(facts)
    return told


def _describe(teller: Narrator) -> None:
    """Level 1: who people are, what they have, where they are; nothing changes."""
    rng, people = teller.rng, teller.cast.people
    places = rng.sample(teller.cast.places, len(people))
    traits = _traits(teller, own=True)
    plan: list[list[Action]] = []
    for i, who in enumerate(people):
        facts = traits[i][: max(2, 7 // len(people) - 1)]
        facts.append(partial(teller.be, who, places[i]))
        rng.shuffle(facts)
        plan.append(facts)
    if rng.random() < 0.3:
        teller.relate(*rng.sample(people, 2))
    _tell_in_turns(rng, plan)


def _tell_in_turns(rng: random.Random, plan: list[list[Action]]) -> None:
    """Mostly one person after the other, at times mixed."""
    mixed = rng.random() < 0.3
    while any(plan):
        group = rng.choice([g for g in plan if g]) if mixed else next(g for g in plan if g)
        group.pop(0)()


def _act(teller: Narrator, level: int) -> None:
    """Levels 2 to 4: people in places, then actions that change what is true."""
    rng, cast = teller.rng, teller.cast
    number = len(cast.people)
    places = [rng.choice(cast.places) for _ in range(number)]
    places[0] = cast.places[0]
    colours = rng.sample(words.COLOURS, len(cast.objects))
    traits = _traits(teller, own=False)
    if level > 2 and rng.random() < 0.4:
        teller.relate(*rng.sample(cast.people, 2))
    for i, who in enumerate(cast.people):
        opening: list[Action] = [partial(teller.be, who, places[i])]
        if i == 0:
            opening.append(partial(teller.own, who, cast.objects[0], colours[0]))
        if level > 2 and rng.random() < 0.4:
            opening.append(traits[i][0])
        rng.shuffle(opening)
        for tell in opening:
            tell()
    spot = rng.choice(list(dict.fromkeys(places)) if rng.random() < 0.6 else cast.places)
    teller.lie(cast.objects[1], colours[1], spot)
    containers = tuple(rng.sample(words.CONTAINERS, 1))
    for _ in range(rng.randint(3, 5 if number == 2 else 4)):
        options = teller.possible_actions(containers)
        if options:
            rng.choices([act for _, act in options], [weight for weight, _ in options])[0]()


def tell(rng: random.Random, level: int, test: bool) -> Narrator:
    """A told story: its sentences, its cast and its final world."""
    teller = Narrator(rng, choose_cast(rng, level, test))
    if level == 1:
        _describe(teller)
    else:
        _act(teller, level)
    return teller
