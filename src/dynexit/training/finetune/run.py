"""The fine-tuning itself: measure, train, measure, write; resumable at any step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dynexit.errors import UserError
from dynexit.files import read_json, write_json
from dynexit.models import Model
from dynexit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from dynexit.training.finetune.curve import ExitPoint, exit_curve
from dynexit.training.finetune.export import TOLD, write_finetuned
from dynexit.training.finetune.identity import identity, refuse_another
from dynexit.training.finetune.lora import add_lora
from dynexit.training.finetune.objective import EarlyExitObjective
from dynexit.training.finetune.recipe import FinetuneRecipe
from dynexit.training.finetune.texts import Rows, Texts, load_texts
from dynexit.training.progress import progress_bar
from dynexit.workers import Workers

if TYPE_CHECKING:
    from accelerate import Accelerator

CLIP = 1.0
SETTINGS, BEFORE, STATE = "settings.json", "before.json", "state.safetensors"


@dataclass(frozen=True)
class Finetuned:
    """What a run gave: the exits of the model before and after it, on held-out texts, and the
    tokens that went through in a second of this run (None: it was finished before)."""

    before: list[ExitPoint]
    after: list[ExitPoint]
    tokens_per_second: float | None


def finetune(
    model: Model, recipe: FinetuneRecipe, out: Path, data: Path | None = None
) -> Finetuned:
    """Fine-tune ``model``, whose weights change, and write it to ``out``.

    ``data`` is a file of texts (None: for a reference model, its own). What is done so far is kept
    in ``out`` with ``.work`` behind it, so that the same call goes on after an interruption; what
    is finished is not done again. With other settings both are refused.
    """
    if model.backbone.config.quantization is not None:
        raise UserError(
            f"{model.name} is quantised; fine-tune the checkpoint that it was made from, and "
            "quantise the result"
        )
    if out.exists() and not _is_ours(out):
        raise UserError(f"--out {out}: something else is there already; name a new directory")
    recipe.check_depth(model.backbone.depth)
    accelerator = _accelerator(model)
    if recipe.batch % accelerator.num_processes:
        raise UserError(
            f"--batch {recipe.batch} is not shared evenly by {accelerator.num_processes} processes"
        )
    texts = load_texts(model, data, recipe)
    mine = identity(model, recipe, data)
    work = out.with_name(out.name + ".work")
    if (out / TOLD).exists():
        return _finished(out, work, mine)
    if accelerator.is_main_process:
        _same_settings(work, mine)
    accelerator.wait_for_everyone()
    trained = _trainable(model, recipe)
    before = _before(model, texts, recipe, work, accelerator)
    speed = _train(model, recipe, texts, trained, work / STATE, accelerator)
    after = _measure(model, texts, recipe)
    result = Finetuned(before, after, speed)
    if accelerator.is_main_process:
        write_finetuned(model, out, {**describe(model, recipe, result), "settings": mine})
        shutil.rmtree(work, ignore_errors=True)
    accelerator.wait_for_everyone()
    return result


def _is_ours(out: Path) -> bool:
    return out.is_dir() and ((out / TOLD).exists() or not any(out.iterdir()))


def _finished(out: Path, work: Path, mine: Mapping[str, Any]) -> Finetuned:
    """What the run that wrote ``out`` gave, if it was this one."""
    told = read_json(out / TOLD)
    refuse_another(out, told.get("settings", {}), mine)
    shutil.rmtree(work, ignore_errors=True)  # killed before that
    return Finetuned(_points(told["before"]), _points(told["after"]), None)


def _points(rows: Iterable[Mapping[str, Any]]) -> list[ExitPoint]:
    return [ExitPoint(**row) for row in rows]


def describe(model: Model, recipe: FinetuneRecipe, result: Finetuned) -> dict[str, Any]:
    """What is told of a run, in its directory and by the command."""
    return {
        "model": model.name,
        "steps": recipe.steps,
        "recipe": recipe.as_json(),
        "before": [point.as_json() for point in result.before],
        "after": [point.as_json() for point in result.after],
        "tokens_per_second": result.tokens_per_second,
    }


def _accelerator(model: Model) -> Accelerator:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise UserError(
            "fine-tuning needs accelerate; install it with: pip install 'dynexit[finetune]'"
        ) from None
    # a dropped layer has no gradient in that step
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=model.backbone.device.type == "cpu", kwargs_handlers=[unused])


def _same_settings(work: Path, mine: Mapping[str, Any]) -> None:
    """Note the settings of this run, or see that an interrupted one had the same."""
    path = work / SETTINGS
    if path.exists():
        refuse_another(work, read_json(path), mine)
    else:
        write_json(path, mine)


def _before(
    model: Model, texts: Texts, recipe: FinetuneRecipe, work: Path, accelerator: Accelerator
) -> list[ExitPoint]:
    """Measured once, as an interrupted run cannot go back."""
    path = work / BEFORE
    if not path.exists():
        points = _measure(model, texts, recipe)
        if accelerator.is_main_process:
            write_json(path, {"points": [point.as_json() for point in points]})
    accelerator.wait_for_everyone()
    return _points(read_json(path)["points"])


def _measure(model: Model, texts: Texts, recipe: FinetuneRecipe) -> list[ExitPoint]:
    held, device = texts.held_out, model.backbone.device
    pieces = (held[at : at + recipe.batch] for at in range(0, len(held), recipe.batch))
    points = exit_curve(model.backbone, (texts.rows(piece).to(device) for piece in pieces))
    for point in points:
        if not isfinite(point.loss):
            raise UserError(
                f"{model.name}, layer {point.layer}: the loss on held-out texts is {point.loss}; "
                "check the checkpoint's weights, or give a smaller --lr"
            )
    return points


def _trainable(model: Model, recipe: FinetuneRecipe) -> list[nn.Parameter]:
    """The adapters, or all weights: in memory of their own, as they may be mapped from a file."""
    backbone = model.backbone
    if recipe.lora:
        return add_lora(backbone, recipe.lora, recipe.seed)
    for parameter in backbone.parameters():
        parameter.data = parameter.data.float().clone()
        parameter.requires_grad_(True)
    return list(backbone.parameters())


def _train(
    model: Model,
    recipe: FinetuneRecipe,
    texts: Texts,
    trained: list[nn.Parameter],
    state: Path,
    accelerator: Accelerator,
) -> float | None:
    """Take the steps that are missing; tokens a second."""
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    kept = nn.ParameterList(trained)
    progress = load_checkpoint(state, kept, optimizer) or Progress({})
    workers = Workers(accelerator.process_index, accelerator.num_processes)
    objective = accelerator.prepare(EarlyExitObjective(model.backbone, recipe, workers))
    seen, begin, first = 0, time.perf_counter(), progress.epoch
    shown = accelerator.is_main_process
    model.backbone.train()
    with progress_bar("fine-tuning", recipe.steps, shown=shown) as advance:
        advance(first, "")
        for step in range(first, recipe.steps):
            rows = texts.batch(step, recipe.batch, workers).to(model.backbone.device)
            seen += workers.count * rows.ids.numel()
            loss = _step(objective, optimizer, rows, recipe, step, accelerator)
            done = step + 1
            if shown and (done % recipe.save_every == 0 or done == recipe.steps):
                save_checkpoint(state, kept, optimizer, Progress({}, epoch=done))
            advance(1, f"loss {loss:.3f}")
    model.backbone.eval()
    return seen / (time.perf_counter() - begin) if recipe.steps > first else None


def _step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    recipe: FinetuneRecipe,
    step: int,
    accelerator: Accelerator,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate * _rate_share(step, recipe.steps)
    loss = objective(rows, step)
    accelerator.backward(loss * _share_of_tokens(rows, accelerator))
    value = float(loss.detach())
    if isnan(value):
        raise UserError(f"the loss is not a number after {step} steps; give a smaller --lr")
    accelerator.clip_grad_norm_(optimizer.param_groups[0]["params"], CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return value


def _share_of_tokens(rows: Rows, accelerator: Accelerator) -> float:
    """What this worker's mean loss counts for in the mean of all workers', which gradients are of:
    as much as its learned tokens."""
    mine = rows.learned.sum()
    if accelerator.num_processes == 1:
        return 1.0
    return float(mine * accelerator.num_processes / accelerator.reduce(mine, "sum"))


def _rate_share(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm, (steps - step) / max(1, steps - warm))
