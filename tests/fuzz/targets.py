"""Every parser that reads what others wrote, each with sound files to begin from.

A target is made in a directory of its own. Its function takes the content of one file, reads it as
a user's command would, and uses what it read; it may raise ``UserError`` and nothing else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from checkpoints import make_checkpoint
from dynexit.calibration.certificate import load_certificates
from dynexit.evaluation.kept_answers import KeptAnswers
from dynexit.evaluation.points import Point, open_points
from dynexit.evaluation.questions import Asked
from dynexit.evaluation.replay import record
from dynexit.evaluation.sweep_folder import SweepFolder, check, describe
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.exit_set import ExitSet, load_exit_set, save_exit_set
from dynexit.exits.judges import build_judge
from dynexit.inference.chat_template import load_chat_template
from dynexit.inference.cost import Pricing
from dynexit.inference.settings import from_generation_config
from dynexit.models import Backbone, Model
from dynexit.models.loading import load_backbone, load_model, read_config
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized
from dynexit.models.tokenizer import load_tokenizer
from dynexit.reporting.report.load import load_sweeps
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.corpus import Sample, read_samples
from dynexit.training.tuned_lens import read_tuned_lens
from fuzz import inputs
from fuzz.samples import (
    COQA,
    GENERATION,
    JINJA,
    PROMPTS,
    TOKENIZERS,
    TRIVIAQA,
    TRUTHFULQA,
    certificates,
    journal,
    more_configs,
    rotary_configs,
    sweep_files,
)

Parse = Callable[[bytes], None]
Mutator = Callable[[Sequence[bytes]], st.SearchStrategy[bytes]]
Made = tuple[Mutator, Sequence[bytes], Parse]


@dataclass(frozen=True)
class Target:
    """What is read: how sound files of it (``seeds``) are broken, and how it is parsed."""

    name: str
    mutated: Mutator
    seeds: Sequence[bytes]
    parse: Parse

    @property
    def inputs(self) -> st.SearchStrategy[bytes]:
        """Broken files of this kind."""
        return self.mutated(self.seeds)


def read(model: Backbone) -> None:
    """Run a few tokens, as what is accepted must also work."""
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        cache = model.new_cache(1, 8)
        place = model.place([0], [3])
        hidden = model.run(model.embed(ids), cache, 0, model.depth, place)
        model.readout(hidden[:, -1])


def _into(path: Path, use: Callable[[], object]) -> Parse:
    """Write the content to a file and use it."""

    def parse(content: bytes) -> None:
        path.write_bytes(content)
        use()

    return parse


def config(place: Path) -> Made:
    seeds = [json.dumps(raw).encode() for raw in more_configs()]
    return inputs.documents, seeds, _into(place / "config.json", lambda: read_config(place))


def checkpoint_config(kind: str) -> Callable[[Path], Made]:
    """A ``config.json`` beside weights: what is accepted is loaded and run."""

    def make(place: Path) -> Made:
        path = make_checkpoint(place, kind, depth=2) / "config.json"
        return (
            inputs.documents,
            [path.read_bytes()],
            _into(path, lambda: read(load_backbone(place))),
        )

    return make


def rotary_config(place: Path) -> Made:
    """The same with rotary positions of every kind."""
    path = make_checkpoint(place, "mistral", depth=2) / "config.json"
    seeds = [json.dumps(raw).encode() for raw in rotary_configs(json.loads(path.read_text()))]
    return inputs.documents, seeds, _into(path, lambda: read(load_backbone(place)))


def weights(place: Path) -> Made:
    path = make_checkpoint(place, "mistral", depth=1) / "model.safetensors"
    return inputs.tensors, [path.read_bytes()], _into(path, lambda: read(load_backbone(place)))


def quantised_weights(place: Path) -> Made:
    whole = make_checkpoint(place / "whole", "mistral", depth=1)
    write_quantized(plan_quantization(whole, QuantizationConfig(4, 32)), place / "int4")
    path = place / "int4" / "model.safetensors"
    return (
        inputs.tensors,
        [path.read_bytes()],
        _into(path, lambda: read(load_backbone(path.parent))),
    )


def index(place: Path) -> Made:
    whole = load_file(make_checkpoint(place, "mamba2", depth=1) / "model.safetensors")
    names = sorted(whole)
    (place / "model.safetensors").unlink()
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: whole[name] for name in part}, place / f"part-{number}.safetensors")
    where = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    seed = json.dumps({"metadata": {"total_size": 1}, "weight_map": where}).encode()
    path = place / "model.safetensors.index.json"
    return inputs.documents, [seed], _into(path, lambda: read(load_backbone(place)))


def generation_config(place: Path) -> Made:
    make_checkpoint(place, "mistral", depth=1)

    def use() -> None:
        model = load_model(str(place))
        from_generation_config(model.generation)

    return inputs.documents, GENERATION, _into(place / "generation_config.json", use)


def tokenizer(place: Path) -> Made:
    def use() -> None:
        loaded = load_tokenizer(place)
        ids = loaded.encode("two words, é and \U0001f600")
        loaded.decode([*ids, 0, 1, 10**6])

    return inputs.documents, TOKENIZERS, _into(place / "tokenizer.json", use)


def _template(place: Path, name: str) -> Parse:
    make_checkpoint(place, "mistral", depth=1)
    model = load_model(str(place))
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]

    def use() -> None:
        load_chat_template(model).encode(model.tokenizer, turns)

    return _into(place / name, use)


def tokenizer_config(place: Path) -> Made:
    told = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": JINJA}
    named = [{"name": "default", "template": JINJA}, {"name": "tool_use", "template": ""}]
    seeds = [json.dumps(told).encode(), json.dumps(told | {"chat_template": named}).encode()]
    return inputs.documents, seeds, _template(place, "tokenizer_config.json")


def chat_template(place: Path) -> Made:
    return inputs.texts, [JINJA.encode()], _template(place, "chat_template.jinja")


def _exit_sets(place: Path) -> tuple[Backbone, list[Path]]:
    backbone = load_backbone(make_checkpoint(place / "model", "mistral", depth=4))
    made = []
    for kind in ("linear", "ffn", "mamba", "entropy"):
        judge = build_judge(kind, (2, 3), backbone.config.hidden)
        save_exit_set(place / kind, ExitSet(judge, (0.9, 0.8), "recompute"), backbone)
        made.append(place / kind)
    return backbone, made


def exits(place: Path) -> Made:
    backbone, made = _exit_sets(place)

    def parse(content: bytes) -> None:
        # the weights beside it are those of the judge that the content speaks of
        kind = next((k for k in ("ffn", "mamba", "entropy") if k.encode() in content), "linear")
        (place / kind / "exits.json").write_bytes(content)
        load_exit_set(place / kind, backbone)

    return inputs.documents, [(one / "exits.json").read_bytes() for one in made], parse


def exit_weights(place: Path) -> Made:
    backbone, made = _exit_sets(place)
    directory = made[1]
    about = json.loads((directory / "exits.json").read_text())
    del about["sha256"]  # else nothing but the digest would be looked at
    (directory / "exits.json").write_text(json.dumps(about))
    path = directory / "exits.safetensors"
    return (
        inputs.tensors,
        [path.read_bytes()],
        _into(path, lambda: load_exit_set(directory, backbone)),
    )


def tuned_lens(place: Path) -> Made:
    named = {f"{n}.weight": torch.zeros(4, 4) for n in (1, 2)}
    path = place / "lens.safetensors"
    save_file(named | {f"{n}.bias": torch.zeros(4) for n in (1, 2)}, path)
    return (
        inputs.tensors,
        [path.read_bytes()],
        _into(path, lambda: read_tuned_lens(path, (1, 2), 4)),
    )


def calibration(place: Path) -> Made:
    return (
        inputs.documents,
        certificates(place),
        _into(place / "calibration.json", lambda: load_certificates(place)),
    )


def _model(place: Path) -> Model:
    return load_model(str(make_checkpoint(place / "model", "mistral", depth=2)))


def kept_answers(place: Path) -> Made:
    model, path = _model(place), place / "answers.jsonl"
    return inputs.lines, [journal()], _into(path, lambda: KeptAnswers(model, [], path))


def sweep_report(name: str) -> Callable[[Path], Made]:
    """A file of a sweep's directory, as a report reads it."""

    def make(place: Path) -> Made:
        seeds = sweep_files(place)
        mutated = inputs.lines if name.endswith(".jsonl") else inputs.documents
        return mutated, [seeds[name]], _into(place / name, lambda: load_sweeps([place]))

    return make


def sweep_resumed(name: str) -> Callable[[Path], Made]:
    """The same file, as a sweep that goes on reads it."""

    def make(place: Path) -> Made:
        model = _model(place)
        sweep_files(place)
        (place / "sweep.json").unlink()  # of a model that there is not

        def use() -> None:
            check(place, model)
            describe(place, model, {}, [], {"states": ["copy"]}, "dynexit sweep")
            SweepFolder(place)
            for row in open_points(place / "points.jsonl").rows:
                Point.from_json(row)

        (place / "points.jsonl").rename(place / "aside")
        describe(place, model, {}, [], {"states": ["recompute"]}, "dynexit sweep")
        (place / "aside").rename(place / "points.jsonl")
        mutated = inputs.lines if name.endswith(".jsonl") else inputs.documents
        return mutated, [(place / name).read_bytes()], _into(place / name, use)

    return make


def full_answers(place: Path) -> Made:
    """The full model's answers, as a sweep that goes on uses them."""
    model, path = _model(place), place / "full.jsonl"
    task = Task("trivia", (Question("Who?", ()), Question("Where?", ())), lambda *_: {}, ("\n",), 2)

    def use() -> None:
        asked = Asked(model, [task])
        asked.answer(SweepFolder(place).full, lambda: None)
        for question, answer in asked.pairs():
            Pricing(model.backbone.config, None, None).answer(answer)
            record(model, question.prompt, answer, (1,))

    use()
    return inputs.lines, [path.read_bytes()], _into(path, use)


def collection(name: str) -> Callable[[Path], Made]:
    """A file of a collection, as one that goes on reads it."""

    def make(place: Path) -> Made:
        model, samples = _model(place), [Sample("a text", group=n) for n in range(4)]

        def use() -> None:
            with redirect_stderr(io.StringIO()):  # each change is told of
                collect(model, samples, CollectSettings((1,), 2, ()), place)

        use()
        path = next(place.glob("store-*")) / name
        mutated = inputs.documents if name.endswith(".json") else inputs.tensors
        return mutated, [path.read_bytes()], _into(path, use)

    return make


def prompts(suffix: str) -> Callable[[Path], Made]:
    def make(place: Path) -> Made:
        path = place / f"prompts{suffix}"
        mutated = inputs.lines if suffix == ".jsonl" else inputs.texts
        return mutated, [PROMPTS], _into(path, lambda: read_samples(path))

    return make


def official(task: str, name: str, seeds: list[bytes]) -> Callable[[Path], Made]:
    def make(place: Path) -> Made:
        def use() -> None:
            for parts in load_tasks([task], 5, place).values():
                for part in parts:
                    for question in part.questions:
                        part.score("an answer", question)

        mutated = inputs.texts if name.endswith(".csv") else inputs.documents
        return mutated, seeds, _into(place / name, use)

    return make


MAKERS: dict[str, Callable[[Path], Made]] = {
    "config": config,
    "config-mistral": checkpoint_config("mistral"),
    "config-mamba2": checkpoint_config("mamba2"),
    "config-rotary": rotary_config,
    "safetensors": weights,
    "safetensors-int4": quantised_weights,
    "index": index,
    "generation-config": generation_config,
    "tokenizer": tokenizer,
    "tokenizer-config": tokenizer_config,
    "chat-template": chat_template,
    "exits": exits,
    "exit-weights": exit_weights,
    "tuned-lens": tuned_lens,
    "calibration": calibration,
    "kept-answers": kept_answers,
    "sweep-about": sweep_report("sweep.json"),
    "sweep-points": sweep_report("points.jsonl"),
    "sweep-examples": sweep_report("examples.jsonl"),
    "sweep-reliability": sweep_report("reliability.jsonl"),
    "resumed-about": sweep_resumed("sweep.json"),
    "resumed-points": sweep_resumed("points.jsonl"),
    "resumed-examples": sweep_resumed("examples.jsonl"),
    "resumed-reliability": sweep_resumed("reliability.jsonl"),
    "resumed-full": full_answers,
    "collection-manifest": collection("manifest.json"),
    "collection-division": collection("division.safetensors"),
    "collection-shard": collection("shard-00000.safetensors"),
    "prompts-jsonl": prompts(".jsonl"),
    "prompts-txt": prompts(".txt"),
    "truthfulqa": official("truthfulqa", "TruthfulQA.csv", TRUTHFULQA),
    "triviaqa": official("triviaqa", "web-dev.json", TRIVIAQA),
    "triviaqa-evidence": official("triviaqa_evidence", "web-dev.json", TRIVIAQA),
    "coqa": official("coqa", "coqa-dev-v1.0.json", COQA),
}


def make_target(name: str, place: Path) -> Target:
    """The target of that name, with its files in the directory ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    return Target(name, *MAKERS[name](place))
