"""``dynexit demo``: the main job on the shipped pair, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from dynexit.commands.options import Json
from dynexit.commands.output import counting, note, out, print_json

if TYPE_CHECKING:
    from dynexit.evaluation.demo import DemoResult

PLOT = "accuracy_vs_flops.png"


def demo(
    out_dir: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Where the exit sets and the plot go."),
    ] = Path("dynexit-demo"),
    json: Json = False,
) -> None:
    """Train exits for the two shipped models, decode, measure and tell; about four minutes.

    For a transformer and a Mamba-2 model: trains the three judges, chooses for every judge and
    state policy the smallest threshold that keeps 97% of the full model's answers on validation
    questions, and answers other questions with each of them and with the full model, in one run.

    Example: `dynexit demo --out demo`
    """
    from dynexit.evaluation.demo import DemoRecipe, run_demo
    from dynexit.models.loading import load_model
    from dynexit.reference.pair import NAMES
    from dynexit.reporting.plots import accuracy_vs_flops

    begin = time.perf_counter()
    results: list[DemoResult] = []
    for name in NAMES:
        note(f"reference:{name}: training exits, decoding, measuring")
        model = load_model(f"reference:{name}")
        with TemporaryDirectory(prefix="dynexit-") as work:
            exits = out_dir / "exits" / name
            results.append(run_demo(model, DemoRecipe(), exits, Path(work), counting))
    rows = [row for result in results for row in result.rows]
    full = [result.full for result in results]
    plot = out_dir / PLOT
    accuracy_vs_flops(rows, full, plot)
    seconds = time.perf_counter() - begin
    if json:
        tables = {"rows": [asdict(row) for row in rows], "full": [asdict(row) for row in full]}
        print_json({**tables, "plot": str(plot), "out": str(out_dir), "seconds": seconds})
    else:
        _show(results, plot, seconds)


def _show(results: Sequence[DemoResult], plot: Path, seconds: float) -> None:
    from rich.text import Text

    from dynexit.reporting.depth import depth_legend, depth_text
    from dynexit.reporting.tables import comparison_table

    console = out()
    plain = not console.is_terminal or console.no_color
    for result in results:
        answer = result.example.generation
        tokens = [(token.text, token.exit_layer) for token in answer.tokens]
        console.print(f"\n{result.full.model} answers, each token as deep as it must", style="bold")
        console.print(Text(result.example.question.prompt, style="dim"), end="")
        console.print(depth_text(tokens, answer.layers, number=plain))
        console.print(depth_legend((layer for _, layer in tokens), answer.layers))
    for result in results:
        console.print()
        console.print(comparison_table(result.full, result.rows))
    console.print(
        "Accuracy is exact match; consistency is the share of answers equal to the full model's. "
        "Speedup is of decoding time, measured side by side in this run. Threshold none: no "
        "threshold kept enough answers on the validation questions, so all ran at full depth."
    )
    console.print(f"Plot: {plot}   ({seconds:.0f} s)")
