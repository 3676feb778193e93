"""The words of the little world: large pools of common words, so that no story can be guessed."""

from __future__ import annotations

MEN = tuple(
    "Tom Sam Ben Max Jack Leo Paul Mark Luke Adam Peter David Simon Oscar Henry James Frank Eric "
    "Hugo Ivan Karl Noah Owen Ryan Alex Dan Fred George Harry Jacob Kevin Liam Martin Nick Robert "
    "Steve".split()
)
WOMEN = tuple(
    "Mary Anna Emma Lucy Sara Julia Laura Nina Olivia Rosa Sophie Clara Diana Ella Fiona Grace "
    "Helen Iris Jane Kate Lily Maria Nora Alice Paula Ruth Susan Tina Vera Wendy Zoe Amy Betty "
    "Carol Eva Hannah".split()
)
OBJECTS = tuple(
    "ball book hat cup lamp coat spoon phone pen kite doll drum map ring rope scarf towel umbrella "
    "vase watch whistle bottle blanket brush button camera candle chair clock comb crown cushion "
    "flag flute fork guitar hammer jacket knife mirror mug pencil pillow plate puzzle ribbon robot "
    "ruler sweater ticket toy violin wheel sword shirt helmet".split()
)
COLOURS = tuple("red blue green yellow white black brown pink purple grey".split())
PLACES = tuple(
    "kitchen garden park library bakery barn forest hall office shop market hotel church museum "
    "tower castle cellar attic bathroom bedroom garage field yard cafe theatre hospital temple "
    "tent cave village stable gym bank factory cinema classroom palace tunnel valley cottage "
    "cabin meadow workshop studio".split()
)
CONTAINERS = tuple("box basket bag drawer bucket chest sack trunk cupboard suitcase".split())
JOBS = tuple(
    "baker teacher doctor farmer nurse painter singer pilot driver dentist sailor tailor writer "
    "lawyer judge soldier waiter plumber gardener carpenter butcher reporter dancer hunter".split()
)
PETS = tuple("dog cat rabbit parrot hamster turtle pony goat duck mouse horse pig".split())
PET_NAMES = tuple(
    "Rex Milo Luna Bella Coco Rocky Daisy Bruno Toby Lucky Simba Pepper Ginger Buddy Oreo Zorro "
    "Felix Misty Rusty Shadow".split()
)
LIKES = tuple(
    "tea coffee soup rice bread cheese music chess football tennis dancing reading swimming milk "
    "honey pizza pasta salad chocolate fishing skiing cooking singing poetry hiking".split()
)
THINGS = tuple(
    "apples eggs oranges pears plums lemons cakes cookies nuts onions carrots potatoes tomatoes "
    "stamps shells stones sweets cards balloons roses".split()
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Feelings with reasons that fit them; nouns here occur in no other pool.
REASONS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("happy", "glad", "proud"),
        (
            "won a game",
            "won a prize",
            "got a letter",
            "met a friend",
            "passed a test",
            "got a gift",
        ),
    ),
    (
        ("sad", "angry", "upset"),
        ("lost a key", "missed the bus", "broke a window", "lost a coin", "failed a test"),
    ),
    (("tired", "sleepy"), ("worked all day", "slept badly", "ran a race", "woke up early")),
    (("scared", "afraid"), ("saw a snake", "heard a noise", "saw a wolf", "had a bad dream")),
    (("hungry", "weak"), ("had no lunch", "forgot breakfast", "had no food")),
)
