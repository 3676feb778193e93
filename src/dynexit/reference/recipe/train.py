"""Training one model of the reference pair on a CPU or a GPU, resumable at any step."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dynexit.files import atomic_path
from dynexit.models.backbone import Backbone
from dynexit.models.families import parse_config
from dynexit.reference.corpus.item import TASKS
from dynexit.reference.corpus.mixture import held_out_items
from dynexit.reference.recipe.batches import Batch, Encoder, single_rows, training_batch
from dynexit.reference.recipe.look_back import look_back_heads
from dynexit.reference.recipe.muon import BatchedMuon
from dynexit.reference.recipe.objective import answers_right, loss_of
from dynexit.reference.recipe.shapes import CONFIGS

_Stage = TypeVar("_Stage")


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. The learning rate rises over ``warmup`` steps, stays, and falls
    to zero over the last ``cooldown`` share of ``steps``. ``mixes`` are pairs of a step and the
    mixture that begins there, ``drills`` pairs of a step and how many rows of each batch are drills
    in looking back from there on. At step ``look_back_at`` a transformer is given heads that look
    back (see ``look_back.py``)."""

    model: str
    steps: int
    mixes: tuple[tuple[int, str], ...]
    drills: tuple[tuple[int, int], ...]
    look_back_at: int | None = None
    rows: int = 16
    width: int = 256
    rate: float = 3e-3
    warmup: int = 60
    cooldown: float = 0.15
    seed: int = 0
    compiled: bool = False
    save_every: int = 100
    report_every: int = 200


def train(
    recipe: Recipe, tokenizer: Path, state_file: Path, device: str = "cpu", workers: int = 0
) -> Backbone:
    """Train on ``device`` to the end, going on from ``state_file`` where there is one.

    ``workers`` processes write the text; 0: this one, between steps.
    """
    encoder = Encoder(tokenizer)
    torch.manual_seed(recipe.seed)
    backbone = Backbone(parse_config(CONFIGS[recipe.model](padded_vocabulary(encoder))))
    _initialise(backbone)
    backbone.to(device)
    optimizers = _optimizers(backbone, recipe)
    done = _resume(backbone, optimizers, state_file)
    backbone.train()
    if recipe.compiled:
        for block in backbone.blocks():
            block.compile()
    log = _Log(recipe)
    steps = range(done, recipe.steps)
    batches = DataLoader(
        _Batches(recipe, encoder), batch_size=None, sampler=steps, num_workers=workers
    )
    for step, batch in zip(steps, batches, strict=True):
        if step == recipe.look_back_at:
            look_back_heads(backbone, training_batch(encoder, 123456, 40, 256, "retelling", 6))
        loss = _step(backbone, optimizers, batch, recipe, step)
        log.add(step + 1, loss)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            _save(backbone, optimizers, step + 1, state_file)
        if (step + 1) % recipe.report_every == 0 or step + 1 == recipe.steps:
            log.say(_report(backbone, encoder, recipe))
    return backbone.eval()


@dataclass(frozen=True)
class _Batches(Dataset[Batch]):
    """The batch of each step; everything random in it follows from the recipe's seed."""

    recipe: Recipe
    encoder: Encoder

    def __getitem__(self, step: int) -> Batch:
        recipe = self.recipe
        mix, drills = _latest(recipe.mixes, step), _latest(recipe.drills, step)
        seed = recipe.seed * 10_000_000 + step
        return training_batch(self.encoder, seed, recipe.rows, recipe.width, mix, drills)


def _step(
    backbone: Backbone,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    recipe: Recipe,
    step: int,
) -> Tensor:
    """One update; everything random in it follows from the recipe's seed and ``step``.

    Returns the loss [] where it was computed, unread: reading it waits for a GPU.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rate_share(step, recipe)
    cooling = step >= recipe.steps * (1 - recipe.cooldown)
    loss = loss_of(backbone, batch, random.Random(f"{recipe.seed}-{step}"), dropout=not cooling)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach()


def _latest(stages: tuple[tuple[int, _Stage], ...], step: int) -> _Stage:
    """What the last of the stages that have begun says."""
    return [what for begin, what in stages if begin <= step][-1]


class _Log:
    """Progress on standard error: mean loss and speed of every 20 steps."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._losses: list[Tensor] = []
        self._clock = time.monotonic()

    def add(self, step: int, loss: Tensor) -> None:
        self._losses.append(loss)
        if step % 20:
            return
        recipe, count = self._recipe, len(self._losses)
        mean = float(torch.stack(self._losses).mean())
        speed = count * recipe.rows * recipe.width / (time.monotonic() - self._clock)
        self.say(f"step {step}/{recipe.steps} loss {mean:.3f} {speed:.0f} tokens/s")
        self._losses = []

    def say(self, line: str) -> None:
        print(f"{self._recipe.model} {line}", file=sys.stderr, flush=True)
        self._clock = time.monotonic()


def padded_vocabulary(encoder: Encoder) -> int:
    """Vocabulary size rounded up to a multiple of 64, which matrix kernels like."""
    return -(-encoder.vocabulary // 64) * 64


def _initialise(backbone: Backbone) -> None:
    nn.init.normal_(backbone.embedding.weight, std=0.05)
    for name, parameter in backbone.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight")):
            nn.init.zeros_(parameter)  # every layer begins as the identity


def _optimizers(backbone: Backbone, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for embedding, head and vectors."""
    named = list(backbone.named_parameters())
    inner = [p for n, p in named if n.startswith("layers.") and p.ndim == 2 and "A_log" not in n]
    inside = {id(p) for p in inner}
    outer = [p for _, p in named if id(p) not in inside]
    muon = BatchedMuon(inner, lr=recipe.rate, weight_decay=0.02)
    adam = torch.optim.AdamW(outer, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = recipe.rate
    return [muon, adam]


def _rate_share(step: int, recipe: Recipe) -> float:
    left = (recipe.steps - step) / (recipe.steps * recipe.cooldown)
    return min(1.0, (step + 1) / recipe.warmup, left)


def _report(backbone: Backbone, encoder: Encoder, recipe: Recipe) -> str:
    """Share of validation answers given exactly, by task."""
    parts = []
    backbone.eval()
    with torch.compiler.set_stance("force_eager"):
        for task in TASKS:
            batch = single_rows(encoder, held_out_items(task, 100, seed=1), recipe.width)
            batch = batch.to(backbone.device)
            right, answered = answers_right(backbone, batch)
            parts.append(f"{task} {right / answered:.3f}")
    backbone.train()
    return "exact answers: " + ", ".join(parts)


def _state(backbone: Backbone, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    tensors = {f"model.{n}": p.detach() for n, p in backbone.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
    return {name: t.contiguous().clone() for name, t in tensors.items()}


def _save(
    backbone: Backbone, optimizers: list[torch.optim.Optimizer], step: int, path: Path
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(_state(backbone, optimizers), temporary, metadata={"step": str(step)})


def _resume(backbone: Backbone, optimizers: list[torch.optim.Optimizer], path: Path) -> int:
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        with torch.no_grad():
            for name, parameter in backbone.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for key in file.keys():  # noqa: SIM118
            if key.startswith("optimizer."):
                _, number, index, field = key.split(".")
                states[int(number)].setdefault(int(index), {})[field] = file.get_tensor(key)
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return step
