"""``dynexit demo``."""

from dynexit.commands.options import Json


def demo(json: Json = False) -> None:
    """Demo."""
