"""Answers token by token, each on the colour of the layer it left at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dynexit.reporting.report.depth_plot import layer_key
from dynexit.reporting.report.palette import DepthScale, text_on
from dynexit.reporting.report.panels import Key
from dynexit.reporting.report.settings import Best, group
from dynexit.reporting.report.sweep import Example, Point, Sweep, Token
from dynexit.reporting.report.table import threshold_text

SHOWN = 2  # answers a backbone and task


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
    judge: str
    setting: str
    prompt: str
    full_text: str | None
    summary: str
    tiles: tuple[Tile, ...]
    keys: tuple[Key, ...]


def heatmaps(
    sweeps: Sequence[Sweep], bests: Sequence[Best], scales: Mapping[str, DepthScale]
) -> list[Heatmap]:
    """A few answers for each backbone and task, in the order of the sweeps: of the settings in the
    table, those that save most, and one that is not the full model's, where there is one."""
    examples = [e for sweep in sweeps for e in _parts(sweep)]
    saved = {_way(best.point): best.point.flop_saving for best in bests}
    found = []
    for same in group(examples, lambda e: (e.backbone, e.task)).values():
        ranked = sorted(same, key=lambda e: -saved.get(_way(e), -2.0))
        shown = ranked[:SHOWN]
        if all(e.text == e.full_text for e in shown):
            shown += [e for e in ranked[SHOWN:] if e.text != e.full_text][:1]
        found += [_heatmap(example, scales[example.backbone]) for example in shown]
    return found


def _parts(sweep: Sweep) -> list[Example]:
    """Answers with tokens; those of pooled tasks are among those of their parts."""
    answers = [example for example in sweep.examples if example.tokens]
    return [e for e in answers if e.task not in sweep.pooled] or answers


def _way(at: Point | Example) -> tuple[object, ...]:
    return at.backbone, at.task, at.judge, at.state, at.threshold


def _heatmap(example: Example, scale: DepthScale) -> Heatmap:
    layers = [token.exit_layer for token in example.tokens]
    same = example.text == example.full_text
    return Heatmap(
        backbone=example.backbone,
        task=example.task,
        judge=example.judge,
        setting=f"{example.state}, threshold {threshold_text(example.threshold)}",
        prompt=example.prompt,
        full_text=None if same else example.full_text,
        summary=f"n = {len(layers)} tokens, mean exit layer {fmean(layers):.1f} of {scale.last}; "
        + ("the full model's answer is the same." if same else "the full model answers otherwise."),
        tiles=tuple(_tile(token, scale) for token in example.tokens),
        keys=tuple(layer_key(layer, scale) for layer in sorted({*layers, scale.last})),
    )


def _tile(token: Token, scale: DepthScale) -> Tile:
    fill = scale.fill(token.exit_layer)
    tip = f"exit layer {token.exit_layer} of {scale.last}"
    if token.score is not None:
        tip += f", score {token.score:.3f}"
    if not token.text:
        tip += "; no text: the answer ends"
    text = token.text.replace("\n", "↵") or "∅"
    return Tile(text, token.exit_layer, fill, text_on(fill), tip)
