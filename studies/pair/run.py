"""The study of the reference pair: judges, state policies, k and number of exits.

    python studies/pair/run.py

runs three sweeps of each backbone and the calibrations, and writes ``tables.md``, ``results.json``
and the report beside this file. Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from analysis import (
    Outcome,
    Way,
    accuracy,
    byte_saving,
    consistency,
    flop_saving,
    layer_saving,
    outcomes,
)
from certified import Certified, as_json, certified
from plan import parts, questions
from tables import certified_table, comparison_table, outcome_table

from dynexit.commands.output import counting, note
from dynexit.errors import UserError
from dynexit.evaluation.candidates import gather
from dynexit.evaluation.demo import EXACT
from dynexit.evaluation.points import Point
from dynexit.evaluation.sweep import run_sweep
from dynexit.files import atomic_path, write_json
from dynexit.models import load_model
from dynexit.models.loading import Model
from dynexit.reference.pair import NAMES
from dynexit.reporting.report import write_report

HERE = Path(__file__).parent
RISKS, CONFIDENCE = (0.01, 0.02, 0.05, 0.1), 0.95
TASK = "reference"
FIGURES = (consistency, accuracy, layer_saving, flop_saving, byte_saving)


@dataclass(frozen=True)
class Found:
    """All of one backbone: points by part of the plan, and certificates."""

    model: Model
    points: dict[str, list[Point]]
    certified: list[Certified]

    def outcomes(self, *names: str) -> dict[Way, Outcome]:
        points = [point for name in names for point in self.points[name]]
        return outcomes(points, TASK)


def main(
    work: Annotated[Path, typer.Option(help="where rows and exit sets are kept")] = Path(
        "runs/pair"
    ),
    out: Annotated[Path, typer.Option(help="where the study's files go")] = HERE,
    model: Annotated[str, typer.Option(help="mistral, mamba2 or both")] = "both",
    limit: Annotated[int, typer.Option(help="questions of each task")] = 100,
    timed: Annotated[int, typer.Option(help="questions to time the best points on")] = 30,
) -> None:
    """Run all that is missing, then write the tables and the report."""
    names = NAMES if model == "both" else (model,)
    try:
        found = [_study(name, work / name, limit, timed) for name in names]
        _write(found, out)
        write_report([work / name / "judges" for name in names], out)
    except UserError as error:
        note(f"study: {error}")
        raise typer.Exit(2) from None


def _study(name: str, work: Path, limit: int, timed: int) -> Found:
    model = load_model(f"reference:{name}")
    asked = questions(limit)
    points, candidates = {}, []
    for part in parts(model.backbone.depth, timed):
        place = work / part.name
        command = "python studies/pair/run.py"
        points[part.name] = run_sweep(
            model, asked, part.wanted, part.grid, place, counting, command
        )
        if part.name == "judges":
            candidates = gather(model, part.wanted, place)
    best = certified(
        model, points["judges"], candidates, RISKS, CONFIDENCE, counting, work / "certified"
    )
    return Found(model, points, best)


def _write(found: list[Found], out: Path) -> None:
    write_json(
        out / "results.json",
        {
            one.model.name: {
                "outcomes": [_outcome(o) for o in one.outcomes(*one.points).values()],
                "certified": [as_json(c) for c in one.certified],
            }
            for one in found
        },
    )
    with atomic_path(out / "tables.md") as temporary:
        temporary.write_text("\n".join(_sections(found)), encoding="utf-8")


def _outcome(outcome: Outcome) -> dict[str, object]:
    figures = {f.__name__: outcome.figure(f) for f in FIGURES}
    return {
        **asdict(outcome.way),
        "thresholds": outcome.thresholds,
        **{name: [value, i.low, i.high] for name, (value, i) in figures.items()},
    }


def _sections(found: list[Found]) -> Iterator[str]:
    questions_asked = len(next(iter(found[0].outcomes("judges").values())).values)
    yield (
        "# Tables\n\nMade by `python studies/pair/run.py`. The threshold of each row is the lowest "
        "that keeps 97% of the answers on every second question; everything else is told of the "
        f"other {questions_asked}, as means over three seeds of judge training, with 95% bootstrap "
        "intervals over questions.\n"
    )
    for one in found:
        judges, labels, exits = (one.outcomes(name) for name in ("judges", "top-k", "exits"))
        yield f"## {one.model.name}\n\n### Judges and state policies\n"
        yield outcome_table(judges.values())
        yield "### Is the first worth more than the second? (points of percent)\n"
        yield comparison_table(list(_pairs(judges)))
        base = [w for w in judges if w.judge in ("linear", "mamba") and w.state == EXACT]
        yield "### Labels: the full model's k best\n"
        yield outcome_table([*(judges[w] for w in base), *labels.values()])
        yield "### How many exits\n"
        yield outcome_table([*(judges[w] for w in base), *exits.values()])
        yield "### Certified (textual loss 1 - ROUGE-L, confidence 0.95)\n"
        yield certified_table(one.certified)


def _pairs(judges: dict[Way, Outcome]) -> Iterator[tuple[str, Outcome, Outcome]]:
    exact = {way.judge: outcome for way, outcome in judges.items() if way.state == EXACT}
    for other in ("linear", "ffn", "entropy"):
        yield f"mamba - {other}", exact["mamba"], _like(exact[other], exact["mamba"])
    for way, outcome in judges.items():
        if way.judge == "mamba" and way.state != EXACT:
            yield f"mamba {way.state} - mamba {EXACT}", outcome, exact["mamba"]


def _like(outcome: Outcome, other: Outcome) -> Outcome:
    """A judge without seeds, as often as the other has seeds."""
    seeds = other.values.shape[1]
    if outcome.values.shape[1] == seeds:
        return outcome
    return Outcome(outcome.way, outcome.thresholds, outcome.values.repeat(seeds, axis=1))


if __name__ == "__main__":
    typer.run(main)
