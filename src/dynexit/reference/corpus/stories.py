"""Conversations about generated stories, in four levels.

Level 1 asks for what one sentence says, 2 for what holds after movements, 3 for answers of two
steps, and 4 refers back to earlier turns ("Where is he now?", "What about Mary?").
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from dynexit.reference.corpus.item import STORIES, Item, Turn, document
from dynexit.reference.corpus.story_queries import Query, queries
from dynexit.reference.corpus.story_telling import tell
from dynexit.reference.corpus.story_wordings import FOLLOW_UPS, HELD_FOLLOW_UPS, WORDINGS
from dynexit.reference.corpus.story_world import Cast, Person

LEVELS = (1, 2, 3, 4)
FULL_SHARE = 0.33
HELD_OUT_SHARE = 0.5
MAX_WORDS = 236
NEVER_REPEATED = frozenset({"is_where", "is_holder", "is_colour", "sibling", "sibling_where"})


@dataclass(frozen=True)
class Focus:
    """Whom "he", "she" and "it" would mean after a turn."""

    he: Person | None = None
    she: Person | None = None
    it: str | None = None

    def covers(self, query: Query) -> bool:
        """Whether some pronoun could stand in the query."""
        return self.person(query) or self.thing(query)

    def person(self, query: Query) -> bool:
        """Whether its person is the one talked about."""
        return query.person is not None and query.person in (self.he, self.she)

    def thing(self, query: Query) -> bool:
        """Whether its object is the one talked about."""
        return query.thing is not None and query.thing == self.it


def _focus(cast: Cast, query: Query, text: str) -> Focus:
    """The focus after a turn whose question and answer are `text`."""
    if query.kind == "pet_name":
        return Focus()
    spoken = set(re.findall(r"\w+", text))
    if query.person is not None:
        spoken.add(query.person.name)
    if query.thing is not None:
        spoken.add(query.thing)
    men = [p for p in cast.people if p.male and p.name in spoken]
    women = [p for p in cast.people if not p.male and p.name in spoken]
    things = [o for o in cast.objects if o in spoken]
    clear = len(things) == 1 and query.kind not in ("inside", "contents")
    return Focus(
        men[0] if len(men) == 1 else None,
        women[0] if len(women) == 1 else None,
        things[0] if clear else None,
    )


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _fill(template: str, query: Query, he: bool, it: bool) -> str:
    """A template with its slots filled, with pronouns where asked for."""
    who, thing = query.person, f"the {query.thing}"
    slots = {
        "a": query.answer,
        "A": _upper(query.answer),
        "o": "it" if it else thing,
        "O": _upper(thing),
        "x": query.value,
        "t": query.truth,
    }
    if who is not None:
        slots |= {"p": who.he if he else who.name, "ps": who.his if he else f"{who.name}'s"}
        slots["n"] = who.name
    return re.sub(r"\{(\w+)\}", lambda slot: slots[slot[1]], template)


class Conversation:
    """Words a chain of queries about one story."""

    def __init__(self, rng: random.Random, cast: Cast, level: int, test: bool) -> None:
        self.rng = rng
        self.cast = cast
        self.level = level
        self.test = test
        self.turns: list[Turn] = []
        self.reached = 1
        self._focus = Focus()
        self._last: Query | None = None
        self._last_short = True

    def choose(self, options: list[Query]) -> Query:
        """The next query: mostly of the story's level, in level 4 mostly on the same subject."""
        linked = [q for q in options if self._focus.covers(q) or self._follows(q)]
        if self.level == 4 and linked and self.rng.random() < 0.8:
            options = linked
        wanted = min(self.level, 3)
        kinds = sorted({q.kind for q in options if q.level == wanted})
        if not kinds or self.rng.random() < 0.35:
            kinds = sorted({q.kind for q in options})
        kind = self.rng.choice(kinds)
        return self.rng.choice([q for q in options if q.kind == kind])

    def _follows(self, query: Query) -> bool:
        """Whether "What about ...?" would ask the query."""
        last = self._last
        return (
            self.level == 4
            and last is not None
            and self._last_short
            and last.kind == query.kind
            and query.kind not in NEVER_REPEATED
            and (last.value == query.value or query.kind in ("count", "left"))
            and (last.person is None) != (last.thing is None)
        )

    def ask(self, query: Query) -> None:
        """Add the turn of a query."""
        held = self.test and self.rng.random() < HELD_OUT_SHARE
        if self._follows(query) and self.rng.random() < 0.7:
            name = query.person.name if query.person else f"the {query.thing}"
            template = self.rng.choice(HELD_FOLLOW_UPS if held else FOLLOW_UPS)
            self._add(query, template.replace("{x}", name), query.answer)
            self.reached = 4
            return
        words = WORDINGS[query.kind]
        full = self.rng.random() < FULL_SHARE
        pools = (words.held_full, words.full) if full else (words.held_short, words.short)
        template = self.rng.choice(pools[0] if held else pools[1])
        he, it = self._pronouns(query, template)
        self.reached = max(self.reached, 4 if he or it else query.level)
        question = _fill(template, query, he, it)
        if (he or it) and not full and self.rng.random() < 0.25:
            question = f"And {question[0].lower()}{question[1:]}"
        answer = _upper(_fill(words.sentence, query, False, False)) if full else query.answer
        self._add(query, question, answer, short=not full)

    def _pronouns(self, query: Query, template: str) -> tuple[bool, bool]:
        """Whether to say "he" or "she", and "it"; only level 4 does."""
        if self.level < 4 or self.rng.random() < 0.1:
            return False, False
        he = self._focus.person(query) and "{p" in template and "{n}" not in template
        return he, self._focus.thing(query) and "{o}" in template

    def _add(self, query: Query, question: str, answer: str, short: bool = True) -> None:
        if short:
            sentence = _upper(_fill(WORDINGS[query.kind].sentence, query, False, False))
            aliases = (*query.aliases, sentence)
        else:
            aliases = (query.answer, *query.aliases)
        self.turns.append(Turn(question, answer, aliases, kind=query.kind))
        self._focus = _focus(self.cast, query, f"{question} {answer}")
        self._last, self._last_short = query, short


def size(item: Item) -> int:
    """Words and marks of a document: its tokens, as nearly every word is one."""
    return len(re.findall(r"\w+|[^\w\s]|\n", document(item)))


def story_item(rng: random.Random, level: int, test: bool = False) -> Item:
    """One conversation about a new story, short enough for the training length."""
    while True:
        teller = tell(rng, level, test)
        options = [q for q in queries(teller.cast, teller.world, rng) if q.level <= level]
        talk = Conversation(rng, teller.cast, level, test)
        for _ in range(rng.randint(4, 6)):
            if options:
                query = talk.choose(options)
                options.remove(query)
                talk.ask(query)
        text = " ".join(teller.sentences)
        item = Item(STORIES, f"story-{level}", text, tuple(talk.turns), level)
        if talk.reached == level and len(talk.turns) >= 3 and size(item) <= MAX_WORDS:
            return item


def training_story(rng: random.Random) -> Item:
    """A training story of any level."""
    return story_item(rng, rng.choice(LEVELS))


RETELL = ("Tell the story again.", "Please repeat the story.", "What was the whole story?")


def training_retelling(rng: random.Random) -> Item:
    """A training story of any level, to be told again word for word."""
    item = training_story(rng)
    turn = Turn(rng.choice(RETELL), item.context, kind="retell")
    return Item(item.task, "retelling", item.context, (turn,), item.level)
