"""Tables that are text and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynexit.reporting.report.cells import MISSING, percent
from dynexit.reporting.report.settings import accuracy
from dynexit.reporting.report.sweep import Point, Sweep
from dynexit.reporting.report.table import COLUMNS, threshold_text

CERTIFICATE = (
    "backbone",
    "judge",
    "state",
    "risk of",
    "threshold",
    "risk at most",
    "confidence",
    "risk seen",
    "p-value",
    "n",
)
SETTING = ("backbone", "task", "judge", "state", "exits", "top-k", "threshold", *COLUMNS, "n")


@dataclass(frozen=True)
class TextTable:
    """A table of plain text; columns from ``right`` on hold numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: int


def certificates(sweeps: Sequence[Sweep]) -> TextTable | None:
    """The certificates of all sweeps, None where there is none."""
    rows = tuple(
        (
            sweep.backbone,
            c.judge,
            c.state,
            c.risk_kind,
            f"{c.threshold:g}",
            percent(c.risk),
            percent(c.confidence),
            percent(c.empirical_risk),
            f"{c.p_value:.2g}",
            str(c.n),
        )
        for sweep in sweeps
        for c in sweep.certificates
    )
    caption = "Certified thresholds; n is the number of calibration questions."
    return TextTable(caption, CERTIFICATE, rows, right=4) if rows else None


def all_settings(points: Sequence[Point]) -> TextTable:
    """Every setting on every task."""
    return TextTable(
        f"All {len(points)} settings and tasks, means over seeds where there are several.",
        SETTING,
        tuple(_setting(point) for point in points),
        right=6,
    )


def _setting(p: Point) -> tuple[str, ...]:
    shares = (accuracy(p), p.consistency["answers"], p.flop_saving, p.byte_saving, p.layer_saving)
    return (
        p.backbone,
        p.task,
        p.judge,
        p.state,
        ", ".join(map(str, p.layers)),
        "" if p.top_k is None else str(p.top_k),
        threshold_text(p.threshold),
        *(MISSING if share is None else percent(share) for share in shares),
        MISSING if p.speedup is None else f"{p.speedup:.2f}x",
        str(p.n),
    )
