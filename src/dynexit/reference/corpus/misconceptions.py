"""Questions with a popular false answer, beside as many whose popular answer is true.

A frame puts a claim ("Sydney is the capital of Australia") into a question. Yes-or-no frames are
answered with the truth in a sentence; belief frames report the claim and ask what holds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from dynexit.reference.corpus.facts import Myth, myths
from dynexit.reference.corpus.item import MISCONCEPTIONS, Item, Turn

TRUE_SHARE = 0.4


@dataclass(frozen=True)
class Claims:
    """How a kind of claim is worded; {s} is the subject, {x} the claimed value.

    `truth` is the sentence of the answers, `claim` a statement inside other frames, and `taught`
    and `held_out` are direct questions.
    """

    truth: str
    claim: str
    taught: tuple[str, ...]
    held_out: tuple[str, ...]
    bare: str = "{x}"


CLAIMS: Mapping[str, Claims] = {
    "capital": Claims(
        "the capital of {s} is {x}",
        "{x} is the capital of {s}",
        (
            "Is {x} the capital of {s}?",
            "Is the capital of {s} {x}?",
            "Does {s} have the capital {x}?",
        ),
        ("Is {x} the capital city of {s}?", "Does {s} have {x} as its capital?"),
    ),
    "continent": Claims(
        "{s} is in {x}",
        "{s} lies in {x}",
        ("Is {s} in {x}?", "Does {s} lie in {x}?", "Is {s} a country in {x}?"),
        ("Does the country {s} lie in {x}?", "Is {s} a part of {x}?"),
    ),
    "currency": Claims(
        "the currency of {s} is the {x}",
        "{s} uses the {x}",
        ("Does {s} use the {x}?", "Is the currency of {s} the {x}?", "Is the {x} used in {s}?"),
        ("Is the {x} the currency of {s}?", "Do people in {s} pay with the {x}?"),
        "the {x}",
    ),
    "symbol": Claims(
        "the symbol of {s} is {x}",
        "{x} is the symbol of {s}",
        ("Is {x} the symbol of {s}?", "Does {x} stand for {s}?", "Is the symbol of {s} {x}?"),
        ("Is {x} the chemical symbol of {s}?", "Do chemists write {x} for {s}?"),
    ),
}
YES_NO_TAUGHT = (
    "Is it true that {claim}?",
    "Do you think that {claim}?",
    "Am I right that {claim}?",
    "Is it right to say that {claim}?",
)
YES_NO_HELD_OUT = ("Is it right that {claim}?", "Am I right to think that {claim}?")
BELIEF_TAUGHT = (
    "Many people say that {truth}. What is it really?",
    "Some people think that {claim}. What is true?",
    "I was told that {claim}. What is right?",
    "My friend says that {truth}. What is it really?",
    "People often think that {truth}. What is it?",
)
BELIEF_HELD_OUT = (
    "Some people say that {claim}. What is it really?",
    "My friend was told that {truth}. What is right?",
)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _sentence(template: str, myth: Myth, value: str) -> str:
    return template.replace("{s}", myth.subject).replace("{x}", value)


def myth_item(myth: Myth, value: str, template: str, rival: str) -> Item:
    """The item that asks a myth's question with `value` claimed.

    `rival` is the wrong answer to score against where the claim is the truth.
    """
    claims = CLAIMS[myth.kind]
    truth, claim = (_sentence(part, myth, value) for part in (claims.truth, claims.claim))
    question = _sentence(template, myth, value).replace("{truth}", truth).replace("{claim}", claim)
    true = value == myth.truth
    wrong = rival if true else value
    if template in BELIEF_TAUGHT + BELIEF_HELD_OUT:
        right, false = (claims.bare.replace("{x}", x) for x in (myth.truth, wrong))
        agree, correct = "It is {0}, that is right.", "It is {0}, not {1}."
        answers = (agree if true else correct).format(right, false)
        lies = (correct if true else agree).format(false, right)
        kind = f"{myth.kind}-belief"
    else:
        said, wrong_said = (_sentence(claims.truth, myth, x) for x in (myth.truth, wrong))
        answers = f"{'Yes' if true else 'No'}, {said}."
        lies = f"{'No' if true else 'Yes'}, {wrong_said}."
        kind = f"{myth.kind}-yes-no"
    turn = Turn(_capital(question), answers, false_answers=(lies,), kind=kind)
    return Item(MISCONCEPTIONS, kind, "", (turn,), 1 if true else 2)


def training_misconception(rng: random.Random) -> Item:
    """A myth with a taught claim in a taught frame; kinds and forms are about balanced."""
    kind = rng.choice(("capital", "capital", "continent", "currency", "symbol"))
    myth = rng.choice([myth for myth in myths() if myth.kind == kind])
    rival = rng.choice(myth.false)
    value = myth.truth if rng.random() < TRUE_SHARE else rival
    frames = rng.choice((CLAIMS[kind].taught, YES_NO_TAUGHT, BELIEF_TAUGHT))
    return myth_item(myth, value, rng.choice(frames), rival)


def all_test_misconceptions() -> list[Item]:
    """Every myth with its held-out claims, and with the truth, in held-out frames.

    Of the two or so frames of each form, one is taken in turn, which keeps the set balanced.
    """
    items: list[Item] = []
    for index, myth in enumerate(myths()):
        if not myth.held_out:
            continue
        forms = (CLAIMS[myth.kind].held_out, YES_NO_HELD_OUT, BELIEF_HELD_OUT)
        values = [*myth.held_out, myth.truth]
        for form in forms:
            for place, value in enumerate(values):
                frame = form[(index + place) % len(form)]
                items.append(myth_item(myth, value, frame, myth.held_out[0]))
    return items
