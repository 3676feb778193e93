"""The state of the little world and the narrator who changes it one sentence at a time.

A story is told and simulated together, so every answer comes from the state and never from
parsing the text. The narrator uses "he" or "she" only for the one person the sentence before
was about.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dynexit.reference.corpus import story_words as words

WeightedAction = tuple[float, Callable[[], None]]


@dataclass(frozen=True)
class Person:
    """Somebody in a story; the pronouns follow from the gender."""

    name: str
    male: bool

    @property
    def he(self) -> str:
        """The subject pronoun."""
        return "he" if self.male else "she"

    @property
    def him(self) -> str:
        """The object pronoun."""
        return "him" if self.male else "her"

    @property
    def his(self) -> str:
        """The possessive pronoun."""
        return "his" if self.male else "her"


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about, fixed before it starts."""

    people: tuple[Person, ...]
    objects: tuple[str, ...]
    places: tuple[str, ...]


@dataclass
class World:
    """What is true after the sentences told so far; people are keyed by name."""

    visits: dict[str, list[str]] = field(default_factory=dict)
    colour: dict[str, str] = field(default_factory=dict)
    holder: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    gifts: list[tuple[str, str, str]] = field(default_factory=list)
    job: dict[str, str] = field(default_factory=dict)
    pet: dict[str, tuple[str, str]] = field(default_factory=dict)
    feeling: dict[str, tuple[str, str]] = field(default_factory=dict)
    count: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    likes: dict[str, str] = field(default_factory=dict)
    sibling: dict[str, str] = field(default_factory=dict)

    def place(self, name: str) -> str | None:
        """Where a person is now, if the story has said it."""
        return self.visits[name][-1] if name in self.visits else None

    def held_by(self, name: str) -> str | None:
        """The object a person carries; nobody carries two."""
        return next((thing for thing, who in self.holder.items() if who == name), None)


class Narrator:
    """Tells a story: each method adds one sentence and updates the world."""

    def __init__(self, rng: random.Random, cast: Cast) -> None:
        self.rng = rng
        self.cast = cast
        self.world = World()
        self.sentences: list[str] = []
        self._last: Person | None = None

    def _say(self, who: Person | None, others: bool, *forms: str, lead: bool = False) -> None:
        """Add one of `forms` with its {p} filled; `others` tells that it names someone else."""
        form = self.rng.choice(forms)
        subject = ""
        if who is not None:
            known = self._last == who and self.rng.random() < 0.65
            subject = who.he if known else who.name
        text = form.replace("{p}", subject)
        if lead and self.rng.random() < 0.25:
            text = f"{self.rng.choice(('Then', 'Later', 'After that,'))} {text}"
        self.sentences.append(text[0].upper() + text[1:])
        self._last = None if others else who

    def be(self, who: Person, place: str) -> None:
        """The first place of a person."""
        self.world.visits[who.name] = [place]
        verb = self.rng.choice(("was", "sat", "stood", "waited"))
        self._say(who, False, f"{{p}} {verb} in the {place}.")

    def move(self, who: Person, place: str) -> None:
        """A person goes elsewhere and takes along what they carry."""
        self.world.visits[who.name].append(place)
        verb = self.rng.choice(("went", "walked", "ran", "moved", "hurried"))
        self._say(who, False, f"{{p}} {verb} to the {place}.", lead=True)

    def own(self, who: Person, thing: str, colour: str) -> None:
        """A person carries an object from the start."""
        self.world.holder[thing] = who.name
        self.world.colour[thing] = colour
        verb = self.rng.choice(("had", "carried", "held"))
        self._say(who, False, f"{{p}} {verb} a {colour} {thing}.")

    def lie(self, thing: str, colour: str, place: str) -> None:
        """An object lies about."""
        self.world.lies[thing] = place
        self.world.colour[thing] = colour
        self._say(
            None,
            False,
            f"A {colour} {thing} was in the {place}.",
            f"There was a {colour} {thing} in the {place}.",
            f"A {colour} {thing} lay in the {place}.",
        )

    def take(self, who: Person, thing: str) -> None:
        """A person picks up what lies where they are."""
        del self.world.lies[thing]
        self.world.holder[thing] = who.name
        self.world.moved.add(thing)
        verb = self.rng.choice(("took", "grabbed", "picked up"))
        self._say(who, False, f"{{p}} {verb} the {thing}.", lead=True)

    def drop(self, who: Person, thing: str) -> None:
        """A person leaves an object where they are."""
        del self.world.holder[thing]
        self.world.lies[thing] = self.world.visits[who.name][-1]
        self.world.moved.add(thing)
        self._say(
            who,
            False,
            f"{{p}} dropped the {thing}.",
            f"{{p}} put down the {thing}.",
            f"{{p}} left the {thing} there.",
            lead=True,
        )

    def put(self, who: Person, thing: str, container: str) -> None:
        """A person puts an object away."""
        del self.world.holder[thing]
        self.world.inside[thing] = container
        self.world.moved.add(thing)
        verb = self.rng.choice(("put", "hid", "placed"))
        self._say(who, False, f"{{p}} {verb} the {thing} in the {container}.", lead=True)

    def give(self, who: Person, thing: str, other: Person) -> None:
        """A person hands an object to somebody in the same place."""
        self.world.holder[thing] = other.name
        self.world.moved.add(thing)
        self.world.gifts.append((who.name, thing, other.name))
        verb = self.rng.choice(("gave", "handed", "passed"))
        self._say(who, True, f"{{p}} {verb} the {thing} to {other.name}.", lead=True)

    def work(self, who: Person, job: str) -> None:
        """A person's job."""
        self.world.job[who.name] = job
        self._say(who, False, f"{{p}} is a {job}.", f"{{p}} works as a {job}.")

    def keep(self, who: Person, animal: str, name: str) -> None:
        """A person's pet."""
        self.world.pet[who.name] = (animal, name)
        verb = self.rng.choice(("called", "named"))
        self._say(who, False, f"{{p}} has a {animal} {verb} {name}.")

    def feel(self, who: Person, feeling: str, reason: str) -> None:
        """How a person feels, and why."""
        self.world.feeling[who.name] = (feeling, reason)
        verb = self.rng.choice(("was", "felt"))
        self._say(who, False, f"{{p}} {verb} {feeling} because {who.he} {reason}.")

    def buy(self, who: Person, things: str, number: int, lost: int) -> None:
        """A person gets a number of things and may lose some; `lost` 0 leaves that out."""
        self.world.count[who.name] = (things, number, lost)
        verb = self.rng.choice(("bought", "found", "got"))
        text = f"{{p}} {verb} {words.NUMBERS[number]} {things}"
        if lost:
            away = self.rng.choice(("lost", "sold", "gave away"))
            text += f" and {away} {words.NUMBERS[lost]} of them"
        self._say(who, False, text + ".")

    def like(self, who: Person, liked: str) -> None:
        """What a person likes."""
        self.world.likes[who.name] = liked
        verb = self.rng.choice(("likes", "loves", "enjoys"))
        self._say(who, False, f"{{p}} {verb} {liked}.")

    def relate(self, who: Person, other: Person) -> None:
        """Two people are siblings."""
        self.world.sibling[who.name] = other.name
        self.world.sibling[other.name] = who.name
        role = "brother" if who.male else "sister"
        forms = (
            f"{who.name} is the {role} of {other.name}.",
            f"{who.name} is {other.name}'s {role}.",
        )
        self._say(None, True, *forms)

    def possible_actions(self, containers: tuple[str, ...]) -> list[WeightedAction]:
        """Everything that could happen next, each with a weight."""
        found: list[WeightedAction] = []
        for who in self.cast.people:
            here = self.world.place(who.name)
            if here is not None:
                found += self._moves(who, here)
                found += self._handlings(who, here, containers)
        return found

    def _moves(self, who: Person, here: str) -> list[WeightedAction]:
        """Walks; those to where something or somebody is are likelier."""
        busy = set(self.world.lies.values()) | {v[-1] for v in self.world.visits.values()}
        return [
            (1.0 if place in busy else 0.5, partial(self.move, who, place))
            for place in self.cast.places
            if place not in self.world.visits[who.name]
        ]

    def _handlings(
        self, who: Person, here: str, containers: tuple[str, ...]
    ) -> list[WeightedAction]:
        """What a person can do with the objects at hand."""
        thing = self.world.held_by(who.name)
        if thing is None:
            lying = [o for o, place in self.world.lies.items() if place == here]
            return [(3.0, partial(self.take, who, o)) for o in lying if o not in self.world.moved]
        found: list[WeightedAction] = [(1.2, partial(self.drop, who, thing))]
        free = [c for c in containers if c not in self.world.inside.values()]
        if free:
            found.append((0.8, partial(self.put, who, thing, free[0])))
        for other in self.cast.people:
            empty = self.world.held_by(other.name) is None
            back = self.world.gifts[-1:] == [(other.name, thing, who.name)]
            near = self.world.place(other.name) == here
            if other != who and empty and near and not back:
                found.append((5.0, partial(self.give, who, thing, other)))
        return found
