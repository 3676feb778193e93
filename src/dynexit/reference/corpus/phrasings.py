"""The wordings of trivia questions: those taught and those kept for the test.

"{s}" is the subject and "{S}" the subject with a capital first letter. The words of a held-out
wording all occur in taught ones; the sentence as a whole never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasings:
    """Two disjoint sets of templates for one relation."""

    taught: tuple[str, ...]
    held_out: tuple[str, ...]


def fill(template: str, subject: str) -> str:
    """The question of a template for one subject."""
    return template.replace("{s}", subject).replace("{S}", subject[0].upper() + subject[1:])


TRIVIA_PHRASINGS: Mapping[str, Phrasings] = {
    "country_capital": Phrasings(
        (
            "What is the capital of {s}?",
            "What is the capital city of {s}?",
            "Which city is the capital of {s}?",
            "What city is {s}'s capital?",
            "{S} has which city as its capital?",
            "Name the capital of {s}.",
            "What is {s}'s capital city called?",
            "The capital of {s} is which city?",
            "Which city serves as the capital of {s}?",
            "Can you name the capital city of {s}?",
            "Do you know the capital of {s}?",
            "In {s}, what is the capital?",
        ),
        (
            "What is the name of {s}'s capital?",
            "Can you tell me which city is the capital of {s}?",
            "Which capital city does {s} have?",
            "What is the capital of the country called {s}?",
        ),
    ),
    "capital_country": Phrasings(
        (
            "{S} is the capital of which country?",
            "Which country has {s} as its capital?",
            "Which country's capital is {s}?",
            "What country is {s} the capital of?",
            "Name the country whose capital is {s}.",
            "Of which country is {s} the capital?",
            "{S} is the capital city of what country?",
            "Which country has the capital {s}?",
            "The city of {s} is the capital of which country?",
            "Do you know the country whose capital city is {s}?",
            "The capital of which country is {s}?",
        ),
        (
            "Can you name the country that has {s} as its capital city?",
            "For which country is {s} the capital?",
            "What is the country whose capital is called {s}?",
        ),
    ),
    "country_continent": Phrasings(
        (
            "On which continent is {s}?",
            "What continent is {s} in?",
            "Which continent is {s} a part of?",
            "{S} is on which continent?",
            "In which continent does {s} lie?",
            "Name the continent of {s}.",
            "To which continent does {s} belong?",
            "{S} belongs to what continent?",
            "What is the continent of {s}?",
            "Do you know which continent {s} lies in?",
            "Where is {s}, on which continent?",
        ),
        (
            "{S} lies in which continent?",
            "Can you tell me the continent that {s} is in?",
            "Which continent does {s} belong to?",
        ),
    ),
    "country_currency": Phrasings(
        (
            "What is the currency of {s}?",
            "Which currency is used in {s}?",
            "What currency does {s} use?",
            "What money do people use in {s}?",
            "Name the currency of {s}.",
            "{S} uses which currency?",
            "What is {s}'s currency?",
            "In {s}, which money do people pay with?",
            "What is the money of {s} called?",
            "Which money is used in {s}?",
            "Do you know the currency used in {s}?",
        ),
        (
            "Can you name the money that people use in {s}?",
            "What is the name of the currency used in {s}?",
            "Which currency do people in {s} pay with?",
        ),
    ),
    "country_language": Phrasings(
        (
            "What language is spoken in {s}?",
            "Which language do people speak in {s}?",
            "What is the language of {s}?",
            "What is the official language of {s}?",
            "Name the official language of {s}.",
            "{S} has which official language?",
            "In {s}, what language do people speak?",
            "Which language is the official one in {s}?",
            "What is {s}'s official language?",
            "Do you know which language is spoken in {s}?",
            "People in {s} speak which language?",
        ),
        (
            "Can you name the language that people speak in {s}?",
            "Which is the official language of {s}?",
            "In {s}, which language is spoken?",
        ),
    ),
    "city_country": Phrasings(
        (
            "In which country is {s}?",
            "What country is {s} in?",
            "Which country does {s} belong to?",
            "The city of {s} is in which country?",
            "Which country is the city of {s} in?",
            "Name the country where {s} lies.",
            "In what country does {s} lie?",
            "Where is {s}, in which country?",
            "{S} is a city in which country?",
            "To which country does the city of {s} belong?",
            "Do you know which country {s} is in?",
        ),
        (
            "Can you tell me the country that {s} lies in?",
            "What country does the city {s} belong to?",
            "{S} lies in which country?",
        ),
    ),
    "element_symbol": Phrasings(
        (
            "What is the chemical symbol of {s}?",
            "What is the symbol of {s}?",
            "What is the chemical symbol for {s}?",
            "Which symbol stands for {s}?",
            "Name the symbol of {s}.",
            "What symbol does the element {s} have?",
            "{S} has which chemical symbol?",
            "How do chemists write {s}?",
            "What is the symbol for the element {s}?",
            "Do you know the symbol of {s}?",
            "Which letters stand for {s}?",
        ),
        (
            "Can you name the chemical symbol of {s}?",
            "Which chemical symbol does {s} have?",
            "Which symbol do chemists write for the element {s}?",
        ),
    ),
    "symbol_element": Phrasings(
        (
            "Which element has the symbol {s}?",
            "What element is {s}?",
            "{s} is the symbol of which element?",
            "Which element does {s} stand for?",
            "Name the element with the symbol {s}.",
            "What does the symbol {s} stand for?",
            "The chemical symbol {s} stands for which element?",
            "What is the element with the symbol {s}?",
            "Which chemical element is written {s}?",
            "Do you know which element has the symbol {s}?",
            "For which element do chemists write {s}?",
        ),
        (
            "Can you name the element whose symbol is {s}?",
            "{s} is the chemical symbol for which element?",
            "What element has the chemical symbol {s}?",
        ),
    ),
    "element_number": Phrasings(
        (
            "What is the atomic number of {s}?",
            "What atomic number does {s} have?",
            "Which atomic number does the element {s} have?",
            "{S} has which atomic number?",
            "How many protons does {s} have?",
            "Name the atomic number of {s}.",
            "What is the number of protons in {s}?",
            "What number does {s} have among the elements?",
            "Do you know the atomic number of {s}?",
            "What is {s}'s atomic number?",
            "How many protons are in an atom of {s}?",
        ),
        (
            "Can you tell me the atomic number of {s}?",
            "Which number of protons does {s} have?",
            "What is the atomic number of the element {s}?",
        ),
    ),
    "number_element": Phrasings(
        (
            "Which element has atomic number {s}?",
            "What is the element with atomic number {s}?",
            "Which element has {s} as its atomic number?",
            "Atomic number {s} belongs to which element?",
            "Name the element with atomic number {s}.",
            "What element has number {s}?",
            "{s} is the atomic number of which element?",
            "To which element does atomic number {s} belong?",
            "Which element's atomic number is {s}?",
            "Do you know which element has atomic number {s}?",
            "The element with number {s} is called what?",
        ),
        (
            "Can you name the element whose atomic number is {s}?",
            "What element has the atomic number {s}?",
            "Which is the element with number {s}?",
        ),
    ),
}
