"""Colours of depth on paper and screens: light is early, dark is deep.

cividis (Nuñez, Anderton and Renslow 2018) grows evenly in lightness, so that readers with any
colour vision, and black-and-white print, see the order of layers.
"""

from __future__ import annotations

from dataclasses import dataclass

# What becomes the colour of the text around a plot, whatever the page's theme.
INK = "#010203"


@dataclass(frozen=True)
class DepthScale:
    """Colours from the ``first`` layer that a token may leave at to the ``last`` of the backbone,
    both counted from 1."""

    first: int
    last: int

    def fill(self, layer: int) -> str:
        """The colour of an exit layer as #rrggbb."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        span = self.last - self.first
        share = (layer - self.first) / span if span > 0 else 1.0
        return to_hex(colormaps["cividis"](1.0 - min(max(share, 0.0), 1.0)))

    def name(self, layer: int) -> str:
        """An exit layer in words."""
        return f"layer {layer} (full depth)" if layer == self.last else f"layer {layer}"


def text_on(fill: str) -> str:
    """Black or white, whichever reads better; its contrast is at least 4.5, as WCAG asks."""
    channels = [int(fill[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    light = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"
