"""Colours of depth on paper and screens: light is early, dark is deep.

cividis (Nuñez, Anderton and Renslow 2018) grows evenly in lightness, so that readers with any
colour vision, and black-and-white print, see the order of layers.
"""

from __future__ import annotations

from functools import cache

# What becomes the colour of the text around a plot, whatever the page's theme.
INK = "#010203"


@cache
def depth_fill(layer: int, depth: int) -> str:
    """The fill of exit layer ``layer`` (from 1) of a backbone of ``depth`` layers, as #rrggbb."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    share = 1.0 if depth < 2 else min(max((layer - 1) / (depth - 1), 0.0), 1.0)
    return to_hex(colormaps["cividis"](1.0 - share))


def text_on(fill: str) -> str:
    """Black or white, whichever reads better; its contrast is at least 4.5, as WCAG asks."""
    channels = [int(fill[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    light = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"
