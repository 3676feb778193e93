"""Answers token by token, each on the colour of the layer it left at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dynexit.reporting.report.depth_plot import layer_key
from dynexit.reporting.report.palette import depth_fill, text_on
from dynexit.reporting.report.panels import Key
from dynexit.reporting.report.sweep import Example, Sweep, Token
from dynexit.reporting.report.table import threshold_text


@dataclass(frozen=True)
class Tile:
    """A token: its text, exit layer, colours and what pointing at it tells."""

    text: str
    layer: int
    fill: str
    ink: str
    tip: str


@dataclass(frozen=True)
class Heatmap:
    """An answer. ``full_text`` is the full model's, None where it is the same."""

    backbone: str
    task: str
    setting: str
    prompt: str
    full_text: str | None
    summary: str
    tiles: tuple[Tile, ...]
    keys: tuple[Key, ...]


def heatmaps(sweeps: Sequence[Sweep]) -> list[Heatmap]:
    """In the order of the sweeps; answers without tokens are left out."""
    return [_heatmap(e) for sweep in sweeps for e in sweep.examples if e.tokens]


def _heatmap(example: Example) -> Heatmap:
    layers = [token.exit_layer for token in example.tokens]
    depth = max(example.depth, *layers)
    same = example.text == example.full_text
    return Heatmap(
        backbone=example.backbone,
        task=example.task,
        setting=f"{example.judge}, {example.state}, threshold {threshold_text(example.threshold)}",
        prompt=example.prompt,
        full_text=None if same else example.full_text,
        summary=f"n = {len(layers)} tokens, mean exit layer {fmean(layers):.1f} of {depth}; "
        + ("the full model's answer is the same." if same else "the full model answers otherwise."),
        tiles=tuple(_tile(token, depth) for token in example.tokens),
        keys=tuple(layer_key(layer, depth) for layer in sorted({*layers, depth})),
    )


def _tile(token: Token, depth: int) -> Tile:
    fill = depth_fill(token.exit_layer, depth)
    tip = f"exit layer {token.exit_layer} of {depth}"
    if token.score is not None:
        tip += f", score {token.score:.3f}"
    return Tile(token.text.replace("\n", "↵"), token.exit_layer, fill, text_on(fill), tip)
