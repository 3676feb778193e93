"""All that a report tells, before it has a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dynexit.reporting.report.depth_plot import depth_plots, depth_scales
from dynexit.reporting.report.difficulty_plot import difficulty_plots
from dynexit.reporting.report.heatmap import Heatmap, heatmaps
from dynexit.reporting.report.palette import DepthScale
from dynexit.reporting.report.panels import Plot
from dynexit.reporting.report.pareto_plot import pareto_plots
from dynexit.reporting.report.reliability_plot import reliability_plots
from dynexit.reporting.report.settings import Best, average_seeds, choose_all
from dynexit.reporting.report.setup import setup_rows
from dynexit.reporting.report.summary import summary, table_notes
from dynexit.reporting.report.sweep import Point, Sweep
from dynexit.reporting.report.table import TaskRows, build_table
from dynexit.reporting.report.text_table import TextTable, all_settings, certificates


@dataclass(frozen=True)
class PlotSection:
    """Plots of one kind; ``name`` is its anchor in the page."""

    name: str
    title: str
    note: str
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Content:
    """Texts are plain. Sections without anything to show are empty or absent."""

    title: str
    summary: tuple[str, ...]
    table_notes: tuple[str, ...]
    tables: tuple[TaskRows, ...]
    sections: tuple[PlotSection, ...]
    heatmaps: tuple[Heatmap, ...]
    certificates: TextTable | None
    settings: TextTable
    setups: tuple[tuple[str, list[tuple[str, str]]], ...]


def build_content(sweeps: Sequence[Sweep]) -> Content:
    """Everything of the sweeps, with the settings chosen and the intervals computed."""
    points = average_seeds([point for sweep in sweeps for point in sweep.points])
    bests, scales = choose_all(points), depth_scales(sweeps)
    return Content(
        title="Early exits: " + ", ".join(dict.fromkeys(sweep.backbone for sweep in sweeps)),
        summary=tuple(summary(bests)),
        table_notes=table_notes(sweeps, bests),
        tables=tuple(build_table(sweeps)),
        sections=tuple(_sections(sweeps, points, bests, scales)),
        heatmaps=tuple(heatmaps(sweeps, bests, scales)),
        certificates=certificates(sweeps),
        settings=all_settings(points),
        setups=tuple((sweep.backbone, setup_rows(sweep)) for sweep in sweeps),
    )


def _sections(
    sweeps: Sequence[Sweep],
    points: Sequence[Point],
    bests: Sequence[Best],
    scales: Mapping[str, DepthScale],
) -> list[PlotSection]:
    made = (
        ("pareto", "Quality against cost", pareto_plots(points)),
        ("exit-layers", "Where tokens leave", depth_plots(bests, scales)),
        ("reliability", "What scores are worth", reliability_plots(sweeps, scales)),
        ("difficulty", "Difficulty and depth", difficulty_plots(bests)),
    )
    return [
        PlotSection(name, title, plots[0].note, tuple(plots))
        for name, title, plots in made
        if plots
    ]
