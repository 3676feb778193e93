"""Does it help to train the recurrent judge on what it will meet in decoding?

    python benchmarks/train_inference_match.py --model reference:mistral --prompts 1500

A token that leaves at an early exit is never seen by the judges of later exits. This fits the
Mamba judge with that reproduced in training and without, on the same collection and for several
seeds, and prints the AUROC of every exit (under the truncation of decoding) and the share of layers
saved at the lowest threshold that keeps 97% of the full model's answers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from dynexit.evaluation.consistency import consistency
from dynexit.evaluation.runner import answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.thresholds import smallest_consistent
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judge import Judge, default_layers
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generation import Generation
from dynexit.models import Model, load_model
from dynexit.training import ExitRecipe, collect_store, fit_exits


def saving_at(model: Model, judge: Judge, target: float, questions: int) -> dict[str, Any]:
    """The lowest threshold whose answers are consistent enough, and what it saves."""
    tasks = reference_tasks(questions, seed=3)
    full = answer_in_batches(model, tasks, None)
    tried: dict[float, list[Generation]] = {}

    def consistency_at(threshold: float) -> float:
        thresholds = (threshold,) * len(judge.layers)
        policy = ExitPolicy(judge, thresholds, skipped_state("recompute"))
        tried[threshold] = answer_in_batches(model, tasks, policy)
        ids = [g.ids for g in full], [g.ids for g in tried[threshold]]
        return consistency(*ids).answers

    threshold = smallest_consistent(consistency_at, target)
    if threshold is None:
        return {"threshold": None, "layer_saving": 0.0}
    exits = [t.exit_layer for g in tried[threshold] for t in g.tokens]
    return {"threshold": threshold, "layer_saving": 1 - fmean(exits) / model.backbone.depth}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference:mistral")
    parser.add_argument("--prompts", type=int, default=1500)
    parser.add_argument("--questions", type=int, default=200, help="of each task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.97)
    options = parser.parse_args()
    model = load_model(options.model)
    layers = default_layers(model.backbone.depth, first=0.25)
    base = ExitRecipe("mamba", layers=layers, prompts=options.prompts)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        work = Path(folder)
        store = collect_store(model, base, work)
        for seed in range(options.seeds):
            for match in (True, False):
                recipe = replace(base, match=match, seed=seed)
                out = work / f"exits-{seed}-{match}"
                metrics = fit_exits(model, store, recipe, out, work)
                judge = load_exit_set(out, model.backbone).judge
                found = saving_at(model, judge, options.target, options.questions)
                aurocs = {m.layer: m.auroc for m in metrics}
                rows.append({"seed": seed, "match": match, "auroc": aurocs, **found})
                print(rows[-1])
    means = {
        str(match): fmean(row["layer_saving"] for row in rows if row["match"] is match)
        for match in (True, False)
    }
    print(json.dumps({"model": options.model, "rows": rows, "mean_layer_saving": means}))


if __name__ == "__main__":
    main()
