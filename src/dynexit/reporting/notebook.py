"""An answer in a notebook: each token in the colour of the layer it left at."""

from __future__ import annotations

from html import escape

from dynexit.inference.generation import GeneratedToken, Generation
from dynexit.reporting.depth import depth_colour, depth_summary

_BOX = "font-family: ui-monospace, monospace; white-space: pre-wrap; line-height: 1.6"
_NOTE = "font-size: smaller; margin-top: 0.5em"


def generation_html(generation: Generation) -> str:
    """A fragment of HTML without scripts: the tokens, a legend of exit layers, the numbers.

    A token's layer and score show where the pointer rests on it.
    """
    layers = generation.layers
    tokens = "".join(_token(token, layers) for token in generation.tokens)
    exits = sorted({*(token.exit_layer for token in generation.tokens), layers})
    legend = " ".join(_sample(layer, layers) for layer in exits)
    return (
        f'<div style="{_BOX}">{tokens}</div>'
        f'<div style="{_NOTE}">exit layer {legend}<br>{escape(depth_summary(generation))}</div>'
    )


def _token(token: GeneratedToken, layers: int) -> str:
    score = "" if token.score is None else f", score {token.score:.3f}"
    return (
        f'<span title="exit layer {token.exit_layer}{score}" '
        f'style="color: {depth_colour(token.exit_layer, layers)}">{escape(token.text)}</span>'
    )


def _sample(layer: int, layers: int) -> str:
    name = f"{layer} (full depth)" if layer == layers else str(layer)
    return f'<span style="color: {depth_colour(layer, layers)}">&#9632;&nbsp;{name}</span>'
