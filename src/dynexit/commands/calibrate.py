"""``dynexit calibrate``: thresholds whose risk is certified."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load
from dynexit.commands.options import (
    DataDir,
    Device,
    Dtype,
    Exits,
    Json,
    Judge,
    Layers,
    Limit,
    Lossless,
    Model,
    State,
    names,
    whole_numbers,
)
from dynexit.commands.output import counting, note, out, print_json
from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE, REFERENCE_JUDGE, Wish, choose

if TYPE_CHECKING:
    from dynexit.evaluation.certify import Calibration, Rung
    from dynexit.evaluation.tasks import Task
    from dynexit.models.loading import Model as LoadedModel


def calibrate(
    model: Model,
    risk: Annotated[
        str,
        typer.Option(
            "--risk", metavar="R,..", help="Bound on the mean loss; several make a ladder."
        ),
    ] = "0.05",
    confidence: Annotated[
        float, typer.Option("--confidence", metavar="C", help="Chance that the bound holds.")
    ] = 0.95,
    risk_kind: Annotated[
        str,
        typer.Option(
            "--risk-kind",
            metavar="NAME",
            help="The loss against the full model's answer: text (1 - ROUGE-L), tokens (share that "
            "differ), answer (1 unless the same), or the drop of a task's metric: f1, em.",
        ),
    ] = "text",
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="NAME,..", help="Whose questions to calibrate on.")
    ] = "reference",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Instead of tasks, prompts like those you will serve: .txt, one a line, or .jsonl "
            "with prompt.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest answer to a --data prompt")
    ] = 64,
    limit: Limit = None,
    exits: Exits = None,
    judge: Judge = None,
    layers: Layers = None,
    state: State = "recompute",
    lossless: Lossless = False,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where calibration.json goes. Default: the directory of --exits.",
        ),
    ] = None,
    data_dir: DataDir = None,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find the threshold that saves most while the risk stays under a bound, with a guarantee.

    Answers with exits are compared with the full model's on about 300 questions. Thresholds are
    tested from the safest down (Learn then Test, with Hoeffding-Bentkus p-values), and the last
    that passes is certified: with the confidence asked for, the expected loss on questions like
    these is at most the risk. If none passes, you are told how many questions would be needed.
    --limit is for each task. Of a conversation one turn is asked. For a bound on your own traffic
    give --data. The reference models use their own exit set of the mamba judge; their certificate
    is kept only with --out.

    With --lossless exits draft, and what is certified is the score from which drafts need no
    verification: decoding between lossless and plain exits.

    Example: `dynexit calibrate reference:mamba2 --risk 0.02,0.05 --out certificates`

    Example: `dynexit calibrate DIR --exits EXITS --lossless`
    """
    from dynexit.calibration.certificate import FILE
    from dynexit.evaluation.bounded import BoundedCalibration
    from dynexit.evaluation.certify import Calibration, save
    from dynexit.evaluation.losses import loss_of
    from dynexit.files import remove_leftovers
    from dynexit.locks import claimed

    risks = _risks(risk, confidence)
    asked = _questions(names(tasks), data, max_new_tokens, limit, data_dir)
    if exits is None and judge is None and layers is None and model.startswith(REFERENCE):
        judge = REFERENCE_JUDGE
    chosen = None if layers is None else whole_numbers("--layers", layers)
    loaded = load(model, dtype, device)
    choice = choose(loaded, Wish(exits, judge, None, None, chosen, state, lossless=lossless))
    if choice.policy is None:
        raise UserError("nothing to calibrate at full depth; give --exits DIR or --judge NAME")
    fitting, loss = _fitting(loaded, asked), loss_of(risk_kind, asked)
    kind = BoundedCalibration if lossless else Calibration
    wanted = kind(loaded, choice.policy, fitting, loss, risks, confidence)
    place = exits if out_dir is None else out_dir
    with nullcontext() if place is None else claimed(place):
        if place is not None:  # where a killed process may have left half a file
            remove_leftovers(place / FILE)
        rungs = _certify(wanted, place)
        saved = None if place is None else save(wanted, rungs, place)
    if json:
        print_json({"model": model, **describe(wanted, rungs, saved)})
    else:
        out().print(f"{model}, judge {choice.judge}, state {wanted.state}", style="bold")
        _show(wanted, rungs, saved)


def _risks(text: str, confidence: float) -> list[float]:
    try:
        risks = [float(part) for part in names(text)]
    except ValueError:
        raise UserError(f"--risk {text!r}: give numbers, such as 0.05 or 0.01,0.05") from None
    if not risks or not all(0.0 < risk < 1.0 for risk in risks):
        raise UserError(f"--risk {text!r}: give numbers between 0 and 1, such as 0.05")
    if not 0.0 < confidence < 1.0:
        raise UserError(f"--confidence {confidence:g}: give a number between 0 and 1, such as 0.95")
    return list(dict.fromkeys(risks))


def _questions(
    wanted: list[str],
    data: Path | None,
    max_new_tokens: int,
    limit: int | None,
    data_dir: Path | None,
) -> list[Task]:
    from dynexit.evaluation.independent import calibration_tasks, prompt_task

    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 question is needed")
    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {max_new_tokens}: at least 1 token is needed")
    if data is not None:
        return [prompt_task(data, limit, max_new_tokens)]
    return calibration_tasks(wanted, limit, data_dir)


def _fitting(model: LoadedModel, tasks: list[Task]) -> list[Task]:
    from dynexit.evaluation.fitting import fitted

    fitting = [task for task in (fitted(model, task) for task in tasks) if task.questions]
    if not fitting:
        raise UserError("no question fits into the model's context; calibrate on shorter prompts")
    return fitting


def _certify(wanted: Calibration, place: Path | None) -> list[Rung]:
    """What is decoded is kept beside ``place`` until all is done."""
    from dynexit.calibration import check_directory
    from dynexit.evaluation.certify import certify
    from dynexit.exits.fingerprint import fingerprint

    if place is not None:
        check_directory(place, fingerprint(wanted.model.backbone))
    work = None if place is None else place.with_name(place.name + ".calibration")
    try:
        return certify(wanted, counting, work)
    except KeyboardInterrupt:
        if work is not None:
            note(f"interrupted; run the same command again to go on from {work}")
        raise


def describe(wanted: Calibration, rungs: list[Rung], saved: Path | None) -> dict[str, Any]:
    """What ``--json`` prints: the first risk at the top, and all of them as ``ladder``."""
    ladder = [_rung(rung) for rung in rungs]
    return {
        "judge": wanted.policy.judge.kind,
        "layers": list(wanted.policy.layers),
        "state": wanted.state,
        "risk_kind": wanted.loss.name,
        "confidence": wanted.confidence,
        "n": rungs[0].outcome.n,
        "tasks": {task.name: len(task.questions) for task in wanted.tasks},
        "data": wanted.data,
        **ladder[0],
        "certificate": None if saved is None else str(saved),
        "ladder": ladder,
    }


def _rung(rung: Rung) -> dict[str, Any]:
    """One risk. Without a valid threshold the numbers are those of the safest, which failed."""
    outcome = rung.outcome
    return {
        "risk": outcome.risk,
        "valid": outcome.valid,
        "threshold": outcome.best.threshold if outcome.valid else None,
        "empirical_risk": outcome.best.empirical,
        "p_value": outcome.best.p_value,
        "needed_n": None if outcome.valid else outcome.needed_n,
        "layer_saving": rung.cost.layer_saving if outcome.valid else 0.0,
        "flop_saving": rung.cost.flop_saving if outcome.valid else 0.0,
        "byte_saving": rung.cost.byte_saving if outcome.valid else 0.0,
        "tested": [
            {"threshold": t.threshold, "empirical_risk": t.empirical, "p_value": t.p_value}
            for t in outcome.tests
        ],
    }


def _show(wanted: Calibration, rungs: list[Rung], saved: Path | None) -> None:
    from dynexit.reporting.calibration import failures, ladder_table

    out().print(ladder_table(wanted.loss.name, rungs))
    for line in failures(rungs):
        out().print(line)
    if saved is not None:
        out().print(f"Certificates in {saved}")
    elif any(rung.outcome.valid for rung in rungs):
        out().print("Not saved; give --out DIR to keep the certificates")
