"""The wordings of story questions: short and full-sentence ones, taught and held out.

A question that begins with a request ("Tell me", "Say") is answered in a full sentence, one that
asks outright in a word or two. Slots: {p} a person as subject, {ps} as owner, {o} an object, {x} a
further value, {a} the short answer, {n} the person's full name (sentences never use a pronoun
for a person asked about), {t} what really holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wordings:
    """Four disjoint sets of question templates and the full-sentence answer."""

    short: tuple[str, ...]
    held_short: tuple[str, ...]
    full: tuple[str, ...]
    held_full: tuple[str, ...]
    sentence: str


WORDINGS: Mapping[str, Wordings] = {
    "where": Wordings(
        ("Where is {p}?", "Where is {p} now?", "In which place is {p}?", "What place is {p} in?"),
        ("Where is {p} at the moment?", "Which place is {p} in now?"),
        ("Tell me where {p} is.", "Say where {p} is now."),
        ("Say where {p} is.", "Tell me which place {p} is in."),
        "{n} is in the {a}.",
    ),
    "holding": Wordings(
        (
            "What is {p} holding?",
            "What does {p} carry?",
            "Which object does {p} hold?",
            "What is {p} carrying now?",
        ),
        ("Which object is {p} holding?", "What does {p} hold now?"),
        ("Tell me what {p} is holding.", "Say what {p} carries."),
        ("Tell me what {p} carries.", "Say which object {p} is holding."),
        "{n} is holding the {a}.",
    ),
    "who_has": Wordings(
        ("Who has {o}?", "Who has {o} now?", "Who is holding {o}?", "Who carries {o}?"),
        ("Who holds {o}?", "Who is carrying {o} now?"),
        ("Tell me who has {o}.", "Say who is holding {o}."),
        ("Say who has {o}.", "Tell me who carries {o} now."),
        "{a} has {o}.",
    ),
    "colour": Wordings(
        (
            "What colour is {o}?",
            "Which colour is {o}?",
            "What colour does {o} have?",
            "Of what colour is {o}?",
        ),
        ("What is the colour of {o}?", "Which colour does {o} have?"),
        ("Tell me what colour {o} is.", "Say which colour {o} has."),
        ("Tell me which colour {o} is.", "Say what colour {o} has."),
        "{O} is {a}.",
    ),
    "object_where": Wordings(
        ("Where is {o}?", "Where is {o} now?", "In which place is {o}?", "What place is {o} in?"),
        ("Where is {o} at the moment?", "Which place is {o} in now?"),
        ("Tell me where {o} is.", "Say where {o} is now."),
        ("Say where {o} is.", "Tell me which place {o} is in."),
        "{O} is in the {a}.",
    ),
    "inside": Wordings(
        ("What was {o} put in?", "Into what was {o} put?", "In which thing was {o} put?"),
        ("What is {o} inside of?", "Inside what is {o} now?"),
        ("Tell me what {o} was put in.", "Say what {o} is inside of."),
        ("Say what {o} was put in.", "Tell me inside what {o} is."),
        "{O} is in the {a}.",
    ),
    "contents": Wordings(
        ("What is in the {x}?", "What is inside the {x}?", "Which object is in the {x}?"),
        ("Which object is inside the {x}?", "What is now in the {x}?"),
        ("Tell me what is in the {x}.", "Say what is inside the {x}."),
        ("Tell me what is inside the {x}.", "Say which object is in the {x}."),
        "The {a} is in the {x}.",
    ),
    "giver": Wordings(
        ("Who gave {o} to {x}?", "From whom did {x} get {o}?", "Who handed {o} to {x}?"),
        ("Who passed {o} to {x}?", "Who was it that gave {o} to {x}?"),
        ("Tell me who gave {o} to {x}.", "Say who handed {o} to {x}."),
        ("Say who gave {o} to {x}.", "Tell me who passed {o} to {x}."),
        "{a} gave {o} to {x}.",
    ),
    "receiver": Wordings(
        ("To whom did {p} give {o}?", "Who got {o} from {n}?", "Who did {p} give {o} to?"),
        ("To whom did {p} hand {o}?", "Who was it that got {o} from {n}?"),
        ("Tell me who got {o} from {n}.", "Say to whom {p} gave {o}."),
        ("Say who got {o} from {n}.", "Tell me to whom {p} gave {o}."),
        "{n} gave {o} to {a}.",
    ),
    "job": Wordings(
        ("What is {ps} job?", "What does {p} work as?", "Which job does {p} have?"),
        ("What job does {p} have?", "As what does {p} work?"),
        ("Tell me what {ps} job is.", "Say what {p} works as."),
        ("Tell me what {p} works as.", "Say which job {p} has."),
        "{n} is a {a}.",
    ),
    "who_job": Wordings(
        ("Who is the {x}?", "Who works as a {x}?", "Which person is a {x}?"),
        ("Who is a {x}?", "Which person works as a {x}?"),
        ("Tell me who is the {x}.", "Say who works as a {x}."),
        ("Say who is the {x}.", "Tell me which person is a {x}."),
        "{a} is the {x}.",
    ),
    "pet": Wordings(
        ("What pet does {p} have?", "Which animal does {p} have?", "What is {ps} pet?"),
        ("Which pet does {p} have?", "What animal does {p} have?"),
        ("Tell me what pet {p} has.", "Say which animal {p} has."),
        ("Say what pet {p} has.", "Tell me which animal {p} has."),
        "{n} has a {a}.",
    ),
    "pet_name": Wordings(
        (
            "What is the name of {ps} {x}?",
            "What is {ps} {x} called?",
            "Which name does {ps} {x} have?",
        ),
        ("What name does {ps} {x} have?", "How is {ps} {x} called?"),
        ("Tell me the name of {ps} {x}.", "Say what {ps} {x} is called."),
        ("Say the name of {ps} {x}.", "Tell me what {ps} {x} is called."),
        "The {x} is called {a}.",
    ),
    "pet_owner": Wordings(
        ("Who has the {x}?", "Who has a {x}?", "Whose pet is the {x}?"),
        ("Which person has a {x}?", "Whose is the {x}?"),
        ("Tell me who has the {x}.", "Say whose pet the {x} is."),
        ("Say who has the {x}.", "Tell me which person has a {x}."),
        "{a} has the {x}.",
    ),
    "feeling": Wordings(
        ("How does {p} feel?", "How did {p} feel?", "What does {p} feel like?"),
        ("How is {p} feeling?", "What did {p} feel like?"),
        ("Tell me how {p} feels.", "Say how {p} felt."),
        ("Say how {p} feels.", "Tell me how {p} is feeling."),
        "{n} is {a}.",
    ),
    "why": Wordings(
        ("Why is {p} {x}?", "Why was {p} {x}?", "Why does {p} feel {x}?"),
        ("Why did {p} feel {x}?", "For what reason is {p} {x}?"),
        ("Tell me why {p} is {x}.", "Say for what reason {p} feels {x}."),
        ("Say why {p} is {x}.", "Tell me for what reason {p} is {x}."),
        "{n} is {x} {a}.",
    ),
    "count": Wordings(
        (
            "How many {x} did {p} get?",
            "How many {x} did {p} get at first?",
            "What number of {x} did {p} get?",
        ),
        ("How many {x} did {p} have at first?", "What number of {x} did {p} have at first?"),
        ("Tell me how many {x} {p} got.", "Say how many {x} {p} had at first."),
        ("Say how many {x} {p} got.", "Tell me how many {x} {p} had at first."),
        "{n} got {a} {x}.",
    ),
    "left": Wordings(
        (
            "How many {x} does {p} have left?",
            "How many {x} are left?",
            "What number of {x} is left?",
        ),
        ("How many {x} are still left?", "What number of {x} does {p} have left?"),
        ("Tell me how many {x} {p} has left.", "Say how many {x} are left."),
        ("Say how many {x} {p} has left.", "Tell me how many {x} are left."),
        "{n} has {a} {x} left.",
    ),
    "like": Wordings(
        ("What does {p} like?", "What does {p} love?", "What does {p} enjoy?"),
        ("What is it that {p} likes?", "What does {p} really like?"),
        ("Tell me what {p} likes.", "Say what {p} enjoys."),
        ("Say what {p} likes.", "Tell me what {p} enjoys."),
        "{n} likes {a}.",
    ),
    "who_likes": Wordings(
        ("Who likes {x}?", "Who loves {x}?", "Which person enjoys {x}?"),
        ("Which person likes {x}?", "Who enjoys {x}?"),
        ("Tell me who likes {x}.", "Say who enjoys {x}."),
        ("Say who likes {x}.", "Tell me which person enjoys {x}."),
        "{a} likes {x}.",
    ),
    "sibling": Wordings(
        ("Who is {ps} {x}?", "What is the name of {ps} {x}?", "Which person is {ps} {x}?"),
        ("What is {ps} {x} called?", "What name does {ps} {x} have?"),
        ("Tell me who {ps} {x} is.", "Say the name of {ps} {x}."),
        ("Tell me the name of {ps} {x}.", "Say who {ps} {x} is."),
        "{a} is the {x} of {n}.",
    ),
    "sibling_where": Wordings(
        ("Where is {ps} {x}?", "Where is {ps} {x} now?", "In which place is {ps} {x}?"),
        ("Where is {ps} {x} at the moment?", "Which place is {ps} {x} in?"),
        ("Tell me where {ps} {x} is.", "Say where {ps} {x} is now."),
        ("Say where {ps} {x} is.", "Tell me which place {ps} {x} is in."),
        "{t} is in the {a}.",
    ),
    "before": Wordings(
        (
            "Where was {p} before the {x}?",
            "In which place was {p} before the {x}?",
            "Where was {p} before going to the {x}?",
        ),
        ("What place was {p} in before the {x}?", "Before the {x}, where was {p}?"),
        ("Tell me where {p} was before the {x}.", "Say in which place {p} was before the {x}."),
        ("Say where {p} was before the {x}.", "Tell me in which place {p} was before the {x}."),
        "{n} was in the {a} before.",
    ),
    "who_in": Wordings(
        ("Who is in the {x}?", "Who is in the {x} now?", "Which person is in the {x}?"),
        ("Who is in the {x} at the moment?", "Which person is now in the {x}?"),
        ("Tell me who is in the {x}.", "Say who is in the {x} now."),
        ("Say who is in the {x}.", "Tell me which person is in the {x}."),
        "{a} is in the {x}.",
    ),
    "colour_held": Wordings(
        (
            "What colour is the thing that {p} is holding?",
            "What colour is the object {p} carries?",
            "Which colour is the thing that {p} has?",
        ),
        (
            "Which colour is the object that {p} is holding?",
            "What colour is the thing {p} carries?",
        ),
        ("Tell me what colour the thing that {p} is holding is.",),
        ("Say which colour the object that {p} is holding is.",),
        "{n} is holding a {a} {t}.",
    ),
    "is_where": Wordings(
        ("Is {p} in the {x}?", "Is {p} in the {x} now?"),
        ("Is {p} now in the {x}?", "Is it true that {p} is in the {x}?"),
        ("Tell me if {p} is in the {x}.", "Say if {p} is in the {x} now."),
        ("Say if {p} is in the {x}.", "Tell me if {p} is now in the {x}."),
        "{A}, {n} is in the {t}.",
    ),
    "is_holder": Wordings(
        ("Does {p} have {o}?", "Is {p} holding {o}?"),
        ("Does {p} hold {o} now?", "Is {p} carrying {o}?"),
        ("Tell me if {p} has {o}.", "Say if {p} is holding {o}."),
        ("Say if {p} has {o}.", "Tell me if {p} is carrying {o}."),
        "{A}, {t} has {o}.",
    ),
    "is_colour": Wordings(
        ("Is {o} {x}?", "Is the colour of {o} {x}?"),
        ("Does {o} have the colour {x}?", "Is it true that {o} is {x}?"),
        ("Tell me if {o} is {x}.", "Say if the colour of {o} is {x}."),
        ("Say if {o} is {x}.", "Tell me if the colour of {o} is {x}."),
        "{A}, {o} is {t}.",
    ),
}
FOLLOW_UPS = ("What about {x}?", "And {x}?")
HELD_FOLLOW_UPS = ("And what about {x}?", "How about {x}?")
