"""Colours of depth: ordered, readable on any background, and told in a legend."""

from __future__ import annotations

import colorsys
import re

from hypothesis import given
from hypothesis import strategies as st

from dynexit.reporting.depth import SCALE, depth_colour, depth_legend, depth_text


def channels(colour: str) -> list[float]:
    return [int(part, 16) / 255 for part in re.findall("..", colour[1:])]


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_colour_reads_on_white_and_on_black() -> None:
    for colour in SCALE:
        assert 1.05 / (luminance(colour) + 0.05) > 4.5
        assert (luminance(colour) + 0.05) / 0.05 > 4.5


def test_colours_go_from_cool_to_warm() -> None:
    hues = [colorsys.rgb_to_hls(*channels(colour))[0] for colour in SCALE]
    assert hues == sorted(hues, reverse=True)


@given(st.integers(2, 100).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_a_deeper_layer_is_never_cooler(case: tuple[int, int]) -> None:
    layers, layer = case
    here, deeper = (SCALE.index(depth_colour(at, layers)) for at in (layer, layer + 1))
    assert here <= deeper


def test_ends_of_the_scale() -> None:
    assert depth_colour(1, 12) == SCALE[0]
    assert depth_colour(12, 12) == SCALE[-1]
    assert depth_colour(1, 1) == SCALE[-1]


def test_text_keeps_every_character_and_marks_each_token() -> None:
    text = depth_text([(" Par", 6), ("is", 12), ("\n", 8)], 12)
    assert text.plain == " Paris\n"
    spans = [(text.plain[s.start : s.end], s.style) for s in text.spans]
    assert spans == [
        (" Par", depth_colour(6, 12)),
        ("is", depth_colour(12, 12)),
        ("\n", depth_colour(8, 12)),
    ]


def test_layers_can_be_told_in_numbers() -> None:
    assert depth_text([(" Paris", 10), (".\n", 6), ("\n", 6)], 12, number=True).plain == (
        " Paris₁₀.₆\n\n"
    )


def test_brackets_are_text_and_no_markup() -> None:
    assert depth_text([("[red]x[/red]", 6)], 12).plain == "[red]x[/red]"


def test_legend_names_every_exit_and_full_depth() -> None:
    assert depth_legend([8, 6, 8], 12).plain == "exit layer: ■ 6  ■ 8  ■ 12 (full depth)"
