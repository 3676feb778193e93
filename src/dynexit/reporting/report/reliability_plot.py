"""Whether a score means what it says: score against the share of tokens that were right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dynexit.reporting.report.depth_plot import layer_key
from dynexit.reporting.report.palette import INK, DepthScale
from dynexit.reporting.report.panels import Key, Panel, Plot
from dynexit.reporting.report.settings import group
from dynexit.reporting.report.sweep import Reliability, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bin = tuple[float, float, int]
BINS = 10
NOTE = (
    "Tokens in groups of like score: their mean score against the share whose token at the exit is "
    "the full model's. On the dotted line a score is a probability; above it the judge is too "
    "cautious, below it too bold. Larger marks hold more tokens. ECE is the mean distance from the "
    "line, AUROC how well scores order right before wrong (0.5 is chance); both are means over "
    "exits, tasks and seeds, weighted by tokens. Scores need not be probabilities to be of use: a "
    "threshold only needs their order."
)


def reliability_plots(sweeps: Sequence[Sweep], scales: Mapping[str, DepthScale]) -> list[Plot]:
    """A plot for each backbone with a panel for each judge, a line for each exit."""
    rows = [row for sweep in sweeps for row in _parts(sweep)]
    plots = []
    for backbone, own in group(rows, lambda r: r.backbone).items():
        scale, by_judge = scales[backbone], group(own, lambda r: r.judge).items()
        panels = tuple(_panel(judge, same, scale) for judge, same in by_judge)
        layers = sorted({r.exit_layer for r in own})
        keys = (Key("score = share", ":", None), *(layer_key(at, scale) for at in layers))
        title = f"{backbone}: scores"
        plots.append(Plot(f"reliability-{backbone}", title, NOTE, panels, keys))
    return plots


def _parts(sweep: Sweep) -> list[Reliability]:
    """Rows with scores; where a task holds others together, its rows would count them twice."""
    rows = [row for row in sweep.reliability if any(count for *_, count in row.bins)]
    parts = [row for row in rows if row.task not in sweep.pooled]
    return parts or rows


def merge_bins(rows: Sequence[Reliability]) -> list[Bin]:
    """The bins of several tasks or seeds as at most ``BINS``, by mean score."""
    merged = []
    bins = [b for row in rows for b in row.bins if b[2] > 0]
    for _, same in sorted(group(bins, lambda b: min(int(b[0] * BINS), BINS - 1)).items()):
        scores, shares, counts = np.array(same, dtype=float).T
        weights = counts / counts.sum()
        merged.append((float(scores @ weights), float(shares @ weights), int(counts.sum())))
    return merged


def weighted(rows: Sequence[Reliability], name: str) -> float | None:
    """The mean of ``auroc`` or ``ece`` over rows that have it, weighted by tokens."""
    told = [(getattr(r, name), sum(c for *_, c in r.bins)) for r in rows]
    pairs = [(value, count) for value, count in told if value is not None and count]
    total = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs) / total if pairs else None


def _panel(judge: str, rows: Sequence[Reliability], scale: DepthScale) -> Panel:
    tasks = ", ".join(dict.fromkeys(r.task for r in rows))
    count = sum(c for r in rows for *_, c in r.bins)
    figures = [
        f"{label} {value:.2f}"
        for label, name in (("ECE", "ece"), ("AUROC", "auroc"))
        if (value := weighted(rows, name)) is not None
    ]
    return Panel(
        title=judge,
        caption=f"{'; '.join(figures) or 'Scores'}. n = {count} scores on {tasks}.",
        draw=partial(_draw, rows, scale),
    )


def _draw(rows: Sequence[Reliability], scale: DepthScale, axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    by_layer = sorted(group(rows, lambda r: r.exit_layer).items())
    lines = [(layer_key(layer, scale), merge_bins(same)) for layer, same in by_layer]
    most = max(count for _, bins in lines for *_, count in bins)
    for key, merged in lines:
        x, y = [b[0] for b in merged], [b[1] for b in merged]
        axes.plot(x, y, color="#888888", linewidth=0.9, zorder=1)
        axes.scatter(
            x,
            y,
            s=[10 + 50 * b[2] / most for b in merged],
            marker="s",
            color=key.fill,
            edgecolors=INK,
            linewidths=0.5,
            zorder=2,
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("mean score")
    axes.set_ylabel("share right")
