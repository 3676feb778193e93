"""Everything that can be asked about a finished story, with its one right answer.

A query is listed only if its answer is unique: nobody is asked for "the baker" where two are
bakers, or for the place of an object that was put away.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dynexit.reference.corpus.story_words import NUMBERS
from dynexit.reference.corpus.story_world import Cast, Person, World


@dataclass(frozen=True)
class Query:
    """A question before it is worded.

    `person` and `thing` may be replaced by pronouns, `value` fills {x}, and `truth` is what the
    full sentence needs beyond the answer.
    """

    kind: str
    level: int
    answer: str
    person: Person | None = None
    thing: str | None = None
    value: str = ""
    truth: str = ""
    aliases: tuple[str, ...] = ()


def queries(cast: Cast, world: World, rng: random.Random) -> list[Query]:
    """All queries of a story; `rng` picks the claims of yes-or-no questions."""
    found: list[Query] = []
    for who in cast.people:
        found += _about_traits(who, world)
        found += _about_place(who, cast, world, rng)
        found += _about_held(who, cast, world, rng)
    for thing in world.colour:
        found += _about_object(thing, world, rng)
    found += _about_world(world)
    found += _about_gifts(cast, world)
    return found


def _about_traits(who: Person, world: World) -> Iterator[Query]:
    name = who.name
    if name in world.job:
        job = world.job[name]
        yield Query("job", 1, job, who, aliases=(f"a {job}",))
        yield Query("who_job", 1, name, value=job)
    if name in world.pet:
        animal, called = world.pet[name]
        yield Query("pet", 1, animal, who, aliases=(f"a {animal}", called))
        yield Query("pet_name", 1, called, who, value=animal)
        yield Query("pet_owner", 1, name, value=animal)
    if name in world.feeling:
        feeling, reason = world.feeling[name]
        yield Query("feeling", 1, feeling, who)
        because = f"because {who.he} {reason}"
        yield Query("why", 1, because, who, value=feeling, aliases=(f"{who.he} {reason}", reason))
    if name in world.likes:
        yield Query("like", 1, world.likes[name], who)
        yield Query("who_likes", 1, name, value=world.likes[name])
    if name in world.count:
        things, number, lost = world.count[name]
        yield Query("count", 1, NUMBERS[number], who, value=things, aliases=(str(number),))
        if lost:
            rest = number - lost
            yield Query("left", 3, NUMBERS[rest], who, value=things, aliases=(str(rest),))


def _in(place: str) -> tuple[str, ...]:
    return f"in the {place}", f"the {place}"


def _about_place(who: Person, cast: Cast, world: World, rng: random.Random) -> Iterator[Query]:
    visits = world.visits.get(who.name, [])
    if not visits:
        return
    here, moved = visits[-1], len(visits) > 1
    level = 2 if moved else 1
    yield Query("where", level, here, who, aliases=_in(here))
    if moved:
        yield Query("before", 3, visits[-2], who, value=here, aliases=_in(visits[-2]))
    others = [v for v in dict.fromkeys([*visits[:-1], *cast.places]) if v != here]
    if rng.random() < 0.5 or not others:
        yield Query("is_where", level, "yes", who, value=here, truth=here)
    else:
        yield Query("is_where", level, "no", who, value=rng.choice(others), truth=here)
    sibling = next((p for p in cast.people if p.name == world.sibling.get(who.name)), None)
    if sibling is not None:
        # Asked of the other one: "Where is Mary's brother?" is about `who`.
        role = "brother" if who.male else "sister"
        yield Query("sibling", 1, who.name, sibling, value=role)
        yield Query("sibling_where", 3, here, sibling, None, role, who.name, _in(here))


def _about_held(who: Person, cast: Cast, world: World, rng: random.Random) -> Iterator[Query]:
    thing = world.held_by(who.name)
    if thing is None:
        return
    level = 2 if thing in world.moved else 1
    colour = world.colour[thing]
    same = (f"the {thing}", f"a {thing}", f"a {colour} {thing}", f"the {colour} {thing}")
    yield Query("holding", level, thing, who, aliases=same)
    yield Query("who_has", level, who.name, thing=thing)
    yield Query("colour_held", 3 if thing in world.moved else 2, colour, who, truth=thing)
    others = [p for p in cast.people if p != who]
    if rng.random() < 0.5 or not others:
        yield Query("is_holder", level, "yes", who, thing, truth=who.name)
    else:
        yield Query("is_holder", level, "no", rng.choice(others), thing, truth=who.name)


def _about_object(thing: str, world: World, rng: random.Random) -> Iterator[Query]:
    colour = world.colour[thing]
    yield Query("colour", 1, colour, thing=thing)
    others = [c for c in dict.fromkeys(world.colour.values()) if c != colour]
    if rng.random() < 0.5 or not others:
        yield Query("is_colour", 1, "yes", thing=thing, value=colour, truth=colour)
    else:
        yield Query("is_colour", 1, "no", thing=thing, value=rng.choice(others), truth=colour)
    if thing in world.lies:
        level = 2 if thing in world.moved else 1
        place = world.lies[thing]
        yield Query("object_where", level, place, thing=thing, aliases=_in(place))
    elif thing in world.holder:
        at = world.place(world.holder[thing])
        if at is not None:
            yield Query("object_where", 3, at, thing=thing, aliases=_in(at))


def _about_world(world: World) -> Iterator[Query]:
    for thing, container in world.inside.items():
        yield Query("inside", 2, container, thing=thing, aliases=_in(container))
        yield Query("contents", 2, thing, value=container, aliases=(f"the {thing}",))
    for place, number in Counter(v[-1] for v in world.visits.values()).items():
        if number == 1:
            name = next(n for n, v in world.visits.items() if v[-1] == place)
            yield Query("who_in", 2, name, value=place)


def _about_gifts(cast: Cast, world: World) -> Iterator[Query]:
    people = {person.name: person for person in cast.people}
    times = Counter(thing for _, thing, _ in world.gifts)
    for giver, thing, receiver in world.gifts:
        if times[thing] == 1:
            yield Query("giver", 2, giver, None, thing, receiver)
            yield Query("receiver", 2, receiver, people[giver], thing)
