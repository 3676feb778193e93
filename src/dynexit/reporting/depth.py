"""A text with each token in the colour of the layer it left at: cool is early, warm is deep."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from dynexit.inference.generation import Generation

# From early to deep. All have a relative luminance of 0.18, halfway for the eye: their contrast
# with white and with black is 4.6, which WCAG asks of text.
SCALE = (
    "#366def",
    "#0f7db4",
    "#0b8480",
    "#0b8835",
    "#62800a",
    "#a16b0d",
    "#ca4e10",
    "#e81a13",
)
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def depth_colour(layer: int, layers: int) -> str:
    """The colour of exit layer ``layer`` (from 1) of a backbone of ``layers`` layers."""
    if layers < 2:
        return SCALE[-1]
    share = min(max((layer - 1) / (layers - 1), 0.0), 1.0)
    return SCALE[round(share * (len(SCALE) - 1))]


def depth_token(text: str, layer: int, layers: int, number: bool = False) -> Text:
    """One token in its colour, followed by the layer with ``number``, for where no colours show."""
    if number and text.strip():
        text = text.rstrip() + str(layer).translate(_SUBSCRIPTS) + text[len(text.rstrip()) :]
    return Text(text, style=depth_colour(layer, layers))


def depth_text(tokens: Iterable[tuple[str, int]], layers: int, number: bool = False) -> Text:
    """Tokens given as (text, exit layer), one after another."""
    return Text.assemble(*(depth_token(text, layer, layers, number) for text, layer in tokens))


def depth_legend(exit_layers: Iterable[int], layers: int) -> Text:
    """A line that shows the colour of each exit layer and of full depth."""
    legend = Text("exit layer: ", style="dim")
    for layer in sorted({*exit_layers, layers}):
        name = f"{layer} (full depth)" if layer == layers else str(layer)
        legend.append_text(Text(f"■ {name}  ", style=depth_colour(layer, layers)))
    legend.rstrip()
    return legend


def depth_summary(generation: Generation) -> str:
    """The numbers of an answer on one line."""
    count, drafting = len(generation.tokens), generation.drafting
    verified = ""
    if drafting is not None:
        verified = f"{drafting.accepted} of {drafting.drafts} drafts accepted, "
    invalid = ""
    if generation.invalid_scores:
        invalid = f", {generation.invalid_scores} scores were no numbers (full depth there)"
    return (
        f"{count} token{'' if count == 1 else 's'}, "
        f"mean exit layer {generation.mean_exit_layer:.1f} of {generation.layers}, "
        f"layer saving {generation.layer_saving:.1%}, {verified}"
        f"{generation.tokens_per_second:.0f} tokens/s{invalid}"
    )
