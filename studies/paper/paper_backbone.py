"""One backbone's part of the study: how long it will take, its judges, its sweep."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from paper_questions import TRAINING_SHARE, Division

from dynexit.commands.output import counting, note
from dynexit.evaluation.candidates import Wanted
from dynexit.evaluation.demo import applicable_states
from dynexit.evaluation.sweep import Grid, run_sweep
from dynexit.exits.judges import DYNAMAX_JUDGES
from dynexit.files import read_json, write_json
from dynexit.inference.decoder import Decoder
from dynexit.models.cost import token_cost
from dynexit.models.loading import Model, load_model
from dynexit.reporting.tables import quantity
from dynexit.training import ExitRecipe, fit_exits
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.store import Store

# With the 4096 of the default a hundred short questions would be read at once, and the states of
# that many take 27 GB in Codestral Mamba.
_BATCH_TOKENS = 1024
_ROWS, _PROMPT, _STEPS = 8, 32, 3  # what speed is measured on
_FRONT = 12  # settings of a task whose time is measured, about


@dataclass(frozen=True)
class Plan:
    """What is done with each backbone; ``recipe`` has its layers, judge, top-k and seed apart."""

    division: Division
    thresholds: tuple[float, ...]
    top_k: tuple[int, ...]
    seeds: tuple[int, ...]
    timed: int
    recipe: ExitRecipe

    def recipes(self, layers: tuple[int, ...]) -> Iterator[ExitRecipe]:
        """One for each exit set."""
        for judge in DYNAMAX_JUDGES:
            for top_k in self.top_k:
                for seed in self.seeds:
                    yield replace(self.recipe, judge=judge, layers=layers, top_k=top_k, seed=seed)


@dataclass(frozen=True)
class Estimate:
    """Measured seconds of a token of a prompt, of an answer in a batch of ``_ROWS``, and of an
    answer alone; ``hours`` is what all of a backbone's part takes at most, about."""

    bytes_per_token: int
    prompt_seconds: float
    batched_seconds: float
    token_seconds: float
    hours: float


def run_backbone(
    name: str, layers: tuple[int, ...], plan: Plan, out: Path, dtype: str, device: str, command: str
) -> None:
    """Load the model, tell how long it will take, train and sweep; the model is gone afterwards."""
    model = load_model(name, getattr(torch, dtype), device)
    told = estimate(model, plan, layers)
    note(
        f"{name}: a token reads {quantity(told.bytes_per_token, 'B')} and takes "
        f"{told.token_seconds:.2g} s alone, {told.batched_seconds:.2g} s in a batch, "
        f"{told.prompt_seconds:.2g} s in a prompt; all of it takes at most about "
        f"{told.hours:.2g} hours"
    )
    _study(model, layers, plan, out, command)
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _study(model: Model, layers: tuple[int, ...], plan: Plan, out: Path, command: str) -> None:
    """Train the judges and sweep, in the directory ``out``; goes on from wherever it was."""
    sets = _exit_sets(model, layers, plan, out)
    grid = Grid(plan.thresholds, tuple(applicable_states(model.backbone.config)), plan.timed)
    wanted = Wanted(judges=DYNAMAX_JUDGES, exits=sets)
    run_sweep(model, plan.division.asked, wanted, grid, out, counting, command)
    about = out / "sweep.json"  # its fields are told in the report
    write_json(about, {**read_json(about), "training": _told(plan)})


def _told(plan: Plan) -> str:
    groups = len({sample.group for sample in plan.division.training})
    return (
        f"judges learnt from the full model's answers to {len(plan.division.training)} prompts of "
        f"{groups} questions and stories, none of which is asked; they were drawn from the "
        f"{TRAINING_SHARE:.0%} of the tasks' own files that a hash puts aside, all turns of a "
        "story on one side"
    )


def _exit_sets(model: Model, layers: tuple[int, ...], plan: Plan, out: Path) -> tuple[Path, ...]:
    """The directory of every exit set, trained where it is missing. One collection serves all."""
    work, places = out / "exits.work", []
    store: Store | None = None
    for recipe in plan.recipes(layers):
        after = "-".join(map(str, layers))
        place = out / "exits" / f"{recipe.judge}-k{recipe.top_k}-s{recipe.seed}-l{after}"
        if not (place / "exits.json").exists():
            store = store or _collected(model, layers, plan, work)
            fit_exits(model, store, recipe, place, work)
        places.append(place)
    shutil.rmtree(work, ignore_errors=True)
    return tuple(places)


def _collected(model: Model, layers: tuple[int, ...], plan: Plan, work: Path) -> Store:
    settings = CollectSettings(
        layers=layers,
        max_new_tokens=plan.recipe.max_new_tokens,
        stop=plan.recipe.stop,
        shard_tokens=plan.recipe.shard_tokens,
        batch_tokens=_BATCH_TOKENS,
    )
    return collect(model, plan.division.training, settings, work)


def estimate(model: Model, plan: Plan, layers: tuple[int, ...]) -> Estimate:
    """Decode a few tokens, and reckon from that. Every threshold is taken to decode all answers at
    full depth and in full length, so it should be less."""
    alone, _ = _seconds(model, 1)
    batched, prompt = _seconds(model, _ROWS)
    tasks = [task for parts in plan.division.asked.values() for task in parts]
    prompts = sum(_tokens(model, q.prompt) for task in tasks for q in task.questions)
    answers = sum(len(task.questions) * task.max_new_tokens for task in tasks)
    ways = len(list(plan.recipes(layers))) * len(applicable_states(model.backbone.config))
    # the full model's answers, the reading of them, and every threshold
    seconds = (2 + ways * len(plan.thresholds)) * (prompts * prompt + answers * batched)
    learnt = [_tokens(model, sample.prompt) for sample in plan.division.training]
    seconds += sum(learnt) * prompt + len(learnt) * plan.recipe.max_new_tokens * batched
    questions = sum(len(task.questions) for task in tasks)
    share = min(1.0, plan.timed * len(tasks) / questions)
    seconds += share * (_FRONT + 1) * (prompts * prompt + answers * alone)
    config = model.backbone.config
    size = model.backbone.embedding.weight.itemsize
    cost = token_cost(config, config.depth, prompts // questions, size)
    return Estimate(cost.bytes, prompt, batched, alone, seconds / 3600)


def _tokens(model: Model, text: str) -> int:
    return len(model.tokenizer.encode(text))


def _seconds(model: Model, rows: int) -> tuple[float, float]:
    """Seconds of a token of an answer and of a prompt, with ``rows`` texts at once."""
    prompt = (model.tokenizer.encode("How long does this take? ") * _PROMPT)[:_PROMPT]
    decoder = Decoder(model.backbone, rows, 2 * _PROMPT + _STEPS + 2)
    decoder.prefill([prompt] * rows)  # the first time it reads the weights from disk
    decoder.step(prompt[:1] * rows)
    begin = time.perf_counter()
    decoder.prefill([prompt] * rows)
    middle = time.perf_counter()
    for token in prompt[:_STEPS]:
        decoder.step([token] * rows).logits.argmax(-1).tolist()
    end = time.perf_counter()
    return (end - middle) / (_STEPS * rows), (middle - begin) / (_PROMPT * rows)
