"""Colours of depth: ordered for every eye, with text that reads on them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dynexit.reporting.report.palette import DepthScale, text_on

colours = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@given(colours)
def test_text_reads_on_any_fill(fill: str) -> None:
    light, dark = sorted((luminance(fill), luminance(text_on(fill))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_deeper_is_darker(ends: tuple[int, int]) -> None:
    scale = DepthScale(*ends)
    shades = [luminance(scale.fill(layer)) for layer in range(ends[0], ends[1] + 1)]
    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == len(shades)
    assert scale.fill(ends[1]) == "#00224e"


def test_layers_outside_take_the_ends() -> None:
    scale = DepthScale(6, 12)
    assert scale.fill(3) == scale.fill(6) == "#fee838"
    assert scale.fill(99) == scale.fill(12)
    assert [scale.name(layer) for layer in (6, 12)] == ["layer 6", "layer 12 (full depth)"]
