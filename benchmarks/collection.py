"""What collecting a judge's training data costs beside a plain forward pass of the same texts.

    python benchmarks/collection.py --shape mistral-7b --work /tmp/seven-b
    python benchmarks/collection.py --shape mistral-7b --work /tmp/seven-b --memory-budget 8GB

writes a checkpoint with random weights (once). In every round the model reads some texts, with the
logits of every token, and then the same texts are collected as ``dynexit train-exits`` does it:
states and ranks at the exits, written to disk in shards, of which each round gives one. With a
memory budget both keep one layer in memory at a time, where the model asks for it. Peak memory is
that of this whole process, mapped pages of the weights included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dynexit.commands.options import bytes_of
from dynexit.commands.output import counting
from dynexit.evaluation.bench.subject import shape_directory
from dynexit.files import write_json
from dynexit.models import Model, load_backbone
from dynexit.models.block import Block
from dynexit.models.layerwise import AllLayers, OneLayer
from dynexit.models.tokenizer import load_tokenizer
from dynexit.reference.pair import reference_directory
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.corpus import Sample, tokenize
from dynexit.training.memory import peak_memory
from dynexit.training.oracle import top_tokens
from dynexit.training.recipe import ExitRecipe


@dataclass(frozen=True)
class Round:
    """Seconds for the same ``tokens``."""

    tokens: int
    forward: float
    collection: float


def main() -> None:
    options = _options()
    budget = bytes_of("--memory-budget", options.memory_budget)
    directory = shape_directory(options.shape, options.work, counting)
    backbone = load_backbone(directory, layers_on_disk=budget is not None)
    tokenizer = load_tokenizer(reference_directory("mistral"))
    model = Model(options.shape, directory, backbone, tokenizer, (), {})
    layers = ExitRecipe().exits(backbone.depth)
    settings = CollectSettings(
        layers, shard_tokens=options.tokens + options.length, batch_tokens=options.batch_tokens
    )
    rounds = []
    with counting("collection", options.rounds) as tick:
        for number in range(options.rounds):
            texts = random_texts(model, number, options.tokens // options.length, options.length)
            rounds.append(one_round(model, texts, settings, options.work, budget))
            tick()
    peak = peak_memory()
    told = {"shape": options.shape, "layers": list(layers), "memory_budget": budget}
    measured = {"peak_memory": peak, "rounds": [asdict(one) for one in rounds]}
    write_json(options.work / f"{options.shape}-collection.json", {**told, **measured})
    Console().print(table(options.shape, layers, rounds, budget, peak))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="mistral-7b")
    parser.add_argument("--work", type=Path, required=True, help="folder with 15 GB to spare")
    parser.add_argument("--memory-budget", help="such as 8GB; default: the whole model in memory")
    parser.add_argument("--tokens", type=int, default=4096, help="of a round, which is a shard")
    parser.add_argument("--length", type=int, default=256, help="tokens of a text")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="in one call of the model")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def random_texts(model: Model, seed: int, count: int, length: int) -> list[Sample]:
    """Texts of exactly ``length`` tokens, of which one is the prompt and the last is not read."""
    generator = torch.Generator().manual_seed(seed)
    texts: list[Sample] = []
    while len(texts) < count:
        ids = torch.randint(300, 3000, (2 * length,), generator=generator).tolist()
        again = model.tokenizer.encode(model.tokenizer.decode(ids))[:length]
        prompt, answer = (model.tokenizer.decode(part) for part in (again[:1], again[1:]))
        sample = Sample(prompt, answer, group=len(texts))
        found = tokenize(sample, model.tokenizer, length)
        if len(found.prompt) + len(found.answer or ()) == length:
            texts.append(sample)
    return texts


def one_round(
    model: Model,
    texts: Sequence[Sample],
    settings: CollectSettings,
    work: Path,
    budget: int | None,
) -> Round:
    """The same texts read and collected."""
    rows = [tokenize(text, model.tokenizer, settings.max_prompt_tokens) for text in texts]
    ids = torch.tensor([[*row.prompt, *(row.answer or ())][:-1] for row in rows])
    at_once = settings.batch_tokens // (ids.shape[1] + 1)
    forward = _timed(lambda: read(model, torch.split(ids, at_once), budget is not None))
    with TemporaryDirectory(dir=work) as place:
        collection = _timed(lambda: collect(model, texts, settings, Path(place), memory=budget))
    return Round(ids.numel(), forward, collection)


@torch.inference_mode()
def read(model: Model, batches: Sequence[Tensor], on_disk: bool) -> None:
    """A plain forward pass: all layers, and the best token of every logit row."""
    backbone = model.backbone
    layer: Callable[[int], AbstractContextManager[Block]]
    layer = (OneLayer if on_disk else AllLayers)(backbone).layer
    hidden = [backbone.embed(ids) for ids in batches]
    places = [backbone.place([0] * len(ids), [ids.shape[1]] * len(ids)) for ids in batches]
    for index in range(backbone.depth):
        with layer(index) as block:
            for number, place in enumerate(places):
                hidden[number] = block(hidden[number], None, place)
    for states in hidden:
        top_tokens(backbone, states.flatten(0, 1))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(
    shape: str, layers: Sequence[int], rounds: Sequence[Round], budget: int | None, peak: int
) -> Table:
    """Medians over the rounds."""
    exits = ", ".join(map(str, layers))
    shown = Table(title=f"{shape}, exits after {exits}, {torch.get_num_threads()} threads")
    for name in ("forward, tokens/s", "collection, tokens/s", "share", "peak memory", "budget"):
        shown.add_column(name, justify="right")
    shown.add_row(
        f"{median(one.tokens / one.forward for one in rounds):.1f}",
        f"{median(one.tokens / one.collection for one in rounds):.1f}",
        f"{100 * median(one.forward / one.collection for one in rounds):.0f}%",
        f"{peak / 1e9:.2f} GB",
        "none" if budget is None else f"{budget / 1e9:.2f} GB",
    )
    return shown


if __name__ == "__main__":
    main()
