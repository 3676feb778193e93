"""Finds popular false answers: big cities that are no capitals, misleading symbols, and the like.

All are computed from the same data as the facts, so that the truth beside each is one the model
is taught as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

from dynexit.reference.corpus import harvest_choices as choices

MythRow = tuple[str, str, list[str], list[str]]


class CountryLike(Protocol):
    """The part of a country that myths are made of."""

    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def capital(self) -> str: ...
    @property
    def continent(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def neighbours(self) -> tuple[str, ...]: ...


class CityLike(Protocol):
    """The part of a city that myths are made of."""

    @property
    def name(self) -> str: ...
    @property
    def code(self) -> str: ...


def gather_myths(
    countries: Sequence[CountryLike],
    cities: Sequence[CityLike],
    symbols: Sequence[tuple[str, str]],
) -> dict[str, list[MythRow]]:
    """Myths by kind; within a kind in the order of the data."""
    return {
        "capital": [row for c in countries if (row := _capital(c, countries, cities))],
        "continent": [_continent(c, countries) for c in countries if _clear(c)],
        "currency": [_currency(c) for c in countries if c.code not in choices.NO_CURRENCY],
        "symbol": [row for name, symbol in symbols if (row := _symbol(name, symbol))],
    }


def _clear(country: CountryLike) -> bool:
    """Whether the country lies in one continent."""
    return country.code not in choices.CONTINENT_ALIASES


def _capital(
    country: CountryLike, countries: Sequence[CountryLike], cities: Sequence[CityLike]
) -> MythRow | None:
    """Its big cities first, then capitals of countries around it.

    The last of several big cities and the last foreign capital are held out.
    """
    if country.code in choices.NO_CAPITAL:
        return None
    also_right = choices.CAPITAL_ALIASES.get(country.code, ())
    own = [c.name for c in cities if c.code == country.code and c.name not in also_right][:4]
    near = [c for c in countries if c.code in country.neighbours]
    near += [c for c in countries if c.continent == country.continent and c not in near]
    usable = [c for c in near if c.code not in (country.code, *choices.NO_CAPITAL)]
    foreign = [c.capital for c in usable][:4]
    held = (own[-1:] if len(own) > 1 else []) + foreign[-1:]
    return country.name, country.capital, [x for x in own + foreign if x not in held], held


def _continent(country: CountryLike, countries: Sequence[CountryLike]) -> MythRow:
    """Continents of its neighbours first, then the others."""
    near = [c.continent for c in countries if c.code in country.neighbours]
    order = dict.fromkeys(near + list(choices.CONTINENTS.values()))
    false = [name for name in order if name != country.continent]
    return country.name, country.continent, *_hold_out_one(country.name, false)


def _hold_out_one(subject: str, false: list[str]) -> tuple[list[str], list[str]]:
    """One rival goes to the test; which one varies, so that no rival is always false."""
    index = zlib.crc32(subject.encode()) % len(false)
    return false[:index] + false[index + 1 :], [false[index]]


def _currency(country: CountryLike) -> MythRow:
    """The great currencies, those of its continent first."""
    habits = {
        "Europe": ("euro", "pound", "franc"),
        "North America": ("dollar", "peso"),
        "South America": ("peso", "dollar", "real"),
        "Africa": ("pound", "franc", "rand"),
        "Asia": ("rupee", "dinar", "yuan"),
        "Oceania": ("pound", "dollar"),
    }
    order = dict.fromkeys((*habits[country.continent], "dollar", "euro", "pound", "peso", "franc"))
    also_right = choices.CURRENCY_ALIASES.get(country.code, ())
    right = (country.currency, *also_right)
    false = [name for name in order if name not in right][:5]
    return country.name, country.currency, *_hold_out_one(country.name, false)


def _symbol(name: str, symbol: str) -> MythRow | None:
    """Symbols one would guess from the name; None where the guess is right."""
    if name.startswith(symbol.lower()):
        return None
    guesses = [name[:2], name[:1], *(name[0] + letter for letter in name[2:4])]
    false = [guess.capitalize() for guess in dict.fromkeys(guesses)]
    false = [guess for guess in false if guess != symbol]
    return name, symbol, false[:2], false[2:3]
