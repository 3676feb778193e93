"""What fine-tuning with early exit does to models that were never trained to be read early.

    python studies/finetune/unread.py grown
    python studies/finetune/unread.py smollm2 --model smollm2/

``grown`` is a small Mamba-2 that is first trained from random weights, ordinarily, on the reference
models' training texts. ``smollm2`` is a Llama that others trained, on Python's language reference.
Rows go to ``unread-NAME.json`` and the tables of all that are there to ``unread.md`` beside this
file. Stopped at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from statistics import fmean
from typing import Annotated, Any

import typer
from saving import saving
from ways import ORDINARY, measured_ways

from dynexit.commands.output import note
from dynexit.errors import UserError
from dynexit.evaluation.runner import FULL, answer_all
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.files import atomic_path, read_json, write_json
from dynexit.models import Model, load_model
from dynexit.models.random_checkpoint import write_checkpoint
from dynexit.reference.corpus.item import document
from dynexit.reference.corpus.mixture import training_items
from dynexit.reference.pair import reference_directory
from dynexit.reference.recipe.shapes import mamba2_config
from dynexit.training.finetune import FinetuneRecipe, finetune
from dynexit.training.finetune.texts import Rows, load_texts

HERE = Path(__file__).parent
KEPT = 0.97  # of the tokens
EXITS = 10  # at most, evenly spaced
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Subject:
    """A model, the file of texts that it is fine-tuned on, and how."""

    model: str
    data: Path
    recipe: FinetuneRecipe

    def arms(self) -> dict[str, FinetuneRecipe]:
        return {"ordinary": replace(self.recipe, **ORDINARY), "early exit": self.recipe}


def main(
    name: Annotated[str, typer.Argument(help="grown or smollm2")],
    model: Annotated[str, typer.Option(help="smollm2's checkpoint or hub id")] = HUB,
    work: Annotated[Path, typer.Option(help="where checkpoints and rows are kept")] = Path(
        "runs/finetune"
    ),
    out: Annotated[Path, typer.Option(help="where the study's files go")] = HERE,
    steps: Annotated[int, typer.Option(help="of each way")] = 100,
    grow: Annotated[int, typer.Option(help="ordinary steps that make the grown model")] = 400,
    limit: Annotated[int, typer.Option(help="questions of each task")] = 20,
) -> None:
    """Run all that is missing, then write the tables."""
    try:
        if name == "grown":
            subject = grown(work / name, steps, grow)
        elif name == "smollm2":
            subject = smollm2(work / name, steps, model)
        else:
            raise UserError(f"{name!r} is none of them; choose from grown and smollm2")
        rows = dict(study(subject, work / name, limit))
        write_json(out / f"unread-{name}.json", {"steps": steps, "ways": rows})
        with atomic_path(out / "unread.md") as temporary:
            temporary.write_text("\n".join(sections(out)), encoding="utf-8")
    except UserError as error:
        note(f"study: {error}")
        raise typer.Exit(2) from None


def grown(work: Path, steps: int, grow: int) -> Subject:
    """A Mamba-2 of 12 layers that has seen 16 texts in each of ``grow`` steps."""
    born, place = work / "born", work / "grown"
    if not (place / "finetune.json").exists():
        small = {"num_hidden_layers": 12, "hidden_size": 192, "num_heads": 6, "dtype": "float32"}
        kin = reference_directory("mamba2")
        config = read_json(kin / "config.json")
        write_checkpoint({**mamba2_config(config["vocab_size"]), **small}, born)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copyfile(kin / name, born / name)
        recipe = FinetuneRecipe(steps=grow, batch=16, length=160, rate=3e-3, **ORDINARY)
        note("grown: growing")
        finetune(load_model(str(born)), recipe, place, _write(work / "to-grow.jsonl", _stories(11)))
    recipe = FinetuneRecipe(steps=steps, batch=16, length=160, rate=1e-3)
    return Subject(str(place), _write(work / "texts.jsonl", _stories(12)), recipe)


def smollm2(work: Path, steps: int, model: str) -> Subject:
    """SmolLM2 with adapters of rank 16."""
    recipe = FinetuneRecipe(
        steps=steps, batch=8, length=96, rate=1e-3, lora=16, held_out=48, save_every=20
    )
    return Subject(model, _write(work / "texts.jsonl", _reference_of_python()), recipe)


def _stories(seed: int) -> Iterator[str]:
    """Documents of the reference models' corpus."""
    return islice(_pieces(document(item) for item in training_items(seed)), 20_000)


def _reference_of_python() -> Iterator[str]:
    """Each paragraph of the language reference that comes with Python, once."""
    paragraphs = (one for name in sorted(topics) for one in topics[name].split("\n\n"))
    return _pieces(f"{one}\n\n" for one in dict.fromkeys(paragraphs) if one.strip())


def _pieces(parts: Iterable[str]) -> Iterator[str]:
    """Parts put together to texts of 500 characters or a little more."""
    text = ""
    for part in parts:
        text += part
        if len(text) >= 500:
            yield text
            text = ""


def _write(path: Path, texts: Iterable[str]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            lines = (json.dumps({"text": text}) + "\n" for text in texts)
            temporary.write_text("".join(lines), encoding="utf-8")
    return path


def study(subject: Subject, work: Path, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each way, the frozen model first."""

    def measure(model: Model) -> dict[str, Any]:
        return measured(model, subject, limit)

    yield from measured_ways(subject.model, subject.data, subject.arms(), work, measure)


def measured(model: Model, subject: Subject, limit: int) -> dict[str, Any]:
    """Exact answers to the reference tasks at full depth, and what exits save on held-out texts."""
    answers = answer_all(model, reference_tasks(limit), {})[FULL]
    texts, size = load_texts(model, subject.data, subject.recipe), subject.recipe.batch

    def half(side: int) -> Iterator[Rows]:
        mine = texts.held_out[side::2]
        for at in range(0, len(mine), size):
            yield texts.rows(mine[at : at + size]).to(model.backbone.device)

    depth = model.backbone.depth
    layers = range(stride := -(-depth // EXITS), depth, stride)
    return {
        "exact": fmean(answer.scores["em"] for answer in answers),
        **saving(model.backbone, [half(0), half(1)], tuple(layers), KEPT),
    }


def sections(out: Path) -> Iterator[str]:
    yield (
        "# Models that were never trained to be read early\n\nMade by `python "
        "studies/finetune/unread.py`, on held-out texts. Saved are layers of tokens that leave, "
        f"with the judge entropy at {EXITS} exits or a few less, at the lowest threshold that "
        f"keeps {100 * KEPT:.0f}% of the last layer's tokens in other texts.\n"
    )
    for path in sorted(out.glob("unread-*.json")):
        told = read_json(path)
        ways = told["ways"]
        yield f"## {path.stem.removeprefix('unread-')}, {told['steps']} steps\n"
        yield "| way | loss, full depth | right, full depth | exact answers | saved | kept |"
        yield "|---|---|---|---|---|---|"
        for way, row in ways.items():
            last = row["curve"][-1]
            shares = (last["accuracy"], row["exact"], row["layer_saving"], row["consistency"])
            told_shares = " | ".join(f"{100 * x:.1f}%" for x in shares)
            yield f"| {way} | {last['loss']:.3f} | {told_shares} |"
        yield "\nAfter each layer: tokens that are the last layer's, and the loss:\n"
        yield "| layer | " + " | ".join(ways) + " |"
        yield "|---" * (len(ways) + 1) + "|"
        for points in zip(*(row["curve"] for row in ways.values()), strict=True):
            cells = (f"{100 * point['agreement']:.1f}%, {point['loss']:.2f}" for point in points)
            yield f"| {points[0]['layer']} | " + " | ".join(cells) + " |"
        yield ""


if __name__ == "__main__":
    typer.run(main)
