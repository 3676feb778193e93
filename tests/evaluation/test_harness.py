"""dynexit as a model of lm-evaluation-harness, against the harness's own ``hf`` model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.evaluation.harness import DynexitLM
from dynexit.evaluation.harness.decoding import decoding
from dynexit.files import write_json
from dynexit.models import Model, load_model
from dynexit.reference.pair import reference_directory
from evaluation.harness_tasks import (
    ANSWERS,
    CHOICES,
    TEXTS,
    TRUTHFUL_ANSWERS,
    TRUTHFUL_CHOICES,
    write_tiny_tasks,
    write_truthfulqa,
)

DATA = "DYNEXIT_DATA_DIR"  # a directory with the official files

# the first of each also cuts contexts and reads texts in several windows
COMPARED = [
    pytest.param("mistral", {"max_length": 40}),
    pytest.param("mistral", {}, marks=pytest.mark.slow),
    pytest.param("mamba2", {"max_length": 40}, marks=pytest.mark.slow),
    pytest.param("mamba2", {}, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_tasks(tmp_path_factory.mktemp("tasks"), questions=2)


@pytest.fixture(scope="module")
def mistral() -> Model:
    return load_model("reference:mistral", torch.float32)


def evaluate(
    kind: str,
    arguments: Mapping[str, Any],
    tasks: Path,
    names: Sequence[str] = (ANSWERS, CHOICES, TEXTS),
    batch: int = 4,
) -> dict[str, Any]:
    results = simple_evaluate(
        model=kind,
        model_args={"dtype": "float32", **arguments},
        tasks=list(names),
        batch_size=batch,
        device="cpu",
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert results is not None
    return dict(results)


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0, metadata=("task", 0, 1))


def likelihoods(results: Mapping[str, Any], task: str) -> list[float]:
    """Every log-likelihood in the samples of a task, in order."""
    answers = [resp for sample in results["samples"][task] for resp in sample["resps"]]
    return [float(a[0][0] if isinstance(a[0], tuple) else a[0]) for a in answers]


@pytest.mark.parametrize(("name", "options"), COMPARED)
def test_full_depth_equals_the_harness_own_model(
    name: str, options: dict[str, int], tasks: Path
) -> None:
    ours = evaluate("dynexit", {"pretrained": f"reference:{name}", **options}, tasks)
    theirs = evaluate("hf", {"pretrained": str(reference_directory(name)), **options}, tasks)
    for task in (CHOICES, TEXTS):
        assert likelihoods(ours, task) == pytest.approx(likelihoods(theirs, task), abs=1e-3)
    texts = [[sample["resps"] for sample in r["samples"][ANSWERS]] for r in (ours, theirs)]
    assert texts[0] == texts[1]
    for task, metrics in theirs["results"].items():
        for metric, value in metrics.items():
            expected = value if isinstance(value, str) else pytest.approx(float(value), rel=1e-4)
            assert ours["results"][task][metric] == expected


def test_results_hold_what_exits_did(tasks: Path) -> None:
    arguments = {"pretrained": "reference:mistral", "judge": "mamba", "threshold": 0.9}
    config = evaluate("dynexit", arguments, tasks)["config"]
    told = config["dynexit"]
    assert config["model_num_parameters"] > 1_000_000
    assert (told["judge"], told["state"], told["threshold"]) == ("mamba", "recompute", 0.9)
    assert set(told["tasks"]) == {ANSWERS, CHOICES, TEXTS}
    for task, kind in ((ANSWERS, "generated"), (CHOICES, "scored"), (TEXTS, "scored")):
        found = told["tasks"][task][kind]
        exits = {int(layer): count for layer, count in found["exit_layers"].items()}
        assert set(exits) <= {*told["layers"], told["depth"]}
        assert sum(exits.values()) == found["tokens"] > 0
        mean = sum(layer * count for layer, count in exits.items()) / found["tokens"]
        assert found["mean_exit_layer"] == pytest.approx(mean)
        assert found["layer_saving"] == pytest.approx(1 - mean / told["depth"])
        assert 0.0 < found["flop_saving"] < found["layer_saving"]
    assert json.loads(json.dumps(told)) == told


def test_lossless_gives_the_results_of_full_depth(tasks: Path) -> None:
    full = evaluate("dynexit", {"pretrained": "reference:mamba2"}, tasks)
    made = evaluate("dynexit", {"pretrained": "reference:mamba2", "lossless": True}, tasks)
    assert made["results"] == full["results"]
    for task in (ANSWERS, CHOICES, TEXTS):
        texts = [[sample["resps"] for sample in r["samples"][task]] for r in (made, full)]
        assert texts[0] == texts[1]
    told = made["config"]["dynexit"]
    assert told["lossless"]
    found = told["tasks"][ANSWERS]["generated"]
    assert 0 < found["accepted_tokens"] <= found["draft_tokens"]
    assert found["acceptance_rate"] == found["accepted_tokens"] / found["draft_tokens"]
    assert 0.0 < found["layer_saving"] < 1.0
    scored = told["tasks"][CHOICES]["scored"]
    assert scored["mean_exit_layer"] == told["depth"]
    assert scored["layer_saving"] == scored["flop_saving"] == 0.0
    assert "draft_tokens" not in scored


def test_full_depth_saves_nothing(mistral: Model) -> None:
    model = DynexitLM(mistral, judge="none")
    model.loglikelihood([request("loglikelihood", "a", " b")], disable_tqdm=True)
    (found,) = model.get_model_info()["dynexit"]["tasks"].values()
    assert found["scored"]["mean_exit_layer"] == 12
    assert found["scored"]["layer_saving"] == found["scored"]["flop_saving"] == 0.0


def test_likelihood_of_an_empty_context(mistral: Model) -> None:
    model = DynexitLM(mistral)
    prefix = model.prefix_token_id
    assert model.tok_encode("Paris") == model.tok_encode("<s>Paris")  # begun once
    rest = model.tok_encode("Paris", add_special_tokens=False)
    assert model.encode("", "Paris") == model.encode("", "<s>Paris") == ([prefix], rest)
    asked = [request("loglikelihood", "", "Paris"), request("loglikelihood", "<s>", "Paris")]
    empty, begun = model.loglikelihood(asked, disable_tqdm=True)
    assert empty == pytest.approx(begun)


def test_spaces_belong_to_the_continuation(mistral: Model) -> None:
    model = DynexitLM(mistral)
    assert model.encode("The capital ", "is") == model.encode("The capital", " is")


def test_contexts_keep_their_end(mistral: Model) -> None:
    model = DynexitLM(mistral, max_length=8)
    assert model.cut(list(range(20)), [1, 2, 3]) == ([14, 15, 16, 17, 18, 19], [1, 2, 3])
    words = "one two three four five six seven eight nine"
    assert model.prompt(words, 5) == model.tok_encode(words)[-3:]
    assert model.prompt("", 5) == [model.prefix_token_id]
    with pytest.raises(UserError, match="max_gen_toks=8 leaves nothing of max_length=8"):
        model.prompt(words, 8)
    with pytest.raises(UserError, match="9 tokens, max_length is 8"):
        model.cut([1], list(range(9)))


def test_answers_of_different_settings_keep_their_order(mistral: Model) -> None:
    model = DynexitLM(mistral, batch_size=2)
    contexts = ["Q: What is the capital of Peru?\nA:", "Once upon a time", "A fox", "One two three"]
    kinds = [{"until": ["\n"], "max_gen_toks": n} for n in (8, 3, 8, 3)]
    asked = [request("generate_until", *pair) for pair in zip(contexts, kinds, strict=True)]
    together = model.generate_until(asked, disable_tqdm=True)
    alone = [model.generate_until([one], disable_tqdm=True)[0] for one in asked]
    assert together == alone
    assert len(set(together)) > 1


def test_an_answer_ends_at_a_special_token(mistral: Model) -> None:
    how = decoding({"until": ["<s>", "", "\n"]}, 16, {}, {"<s>": 1})
    assert how.ends == (1,)
    assert how.settings.stop == ("\n",)


def test_sampling_follows_the_seed_of_the_harness(mistral: Model) -> None:
    model = DynexitLM(mistral)
    how = {"do_sample": True, "temperature": 3.0, "max_gen_toks": 12}

    def sampled(seed: int) -> list[str]:
        torch.manual_seed(seed)
        return model.generate_until([request("generate_until", "Once", how)], disable_tqdm=True)

    assert sampled(1) == sampled(1) != sampled(2)


@pytest.mark.parametrize(
    ("given", "temperature", "tokens"),
    [
        ({}, 0.0, 99),
        ({"max_tokens": 5, "num_beams": 1}, 0.0, 5),
        ({"do_sample": False, "temperature": 0.7}, 0.0, 99),
        ({"temperature": 0.7}, 0.7, 99),
        ({"do_sample": True}, 1.0, 99),
    ],
)
def test_generation_kwargs(given: dict[str, Any], temperature: float, tokens: int) -> None:
    how = decoding(given, 99, {"do_sample": True, "top_k": 7}, {})
    assert how.settings.temperature == temperature
    assert how.max_new_tokens == tokens
    assert how.settings.top_k == 7


def test_unknown_generation_kwargs_are_refused() -> None:
    with pytest.raises(UserError, match="num_beams=4 is not known"):
        decoding({"num_beams": 4}, 16, {}, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"treshold": 0.5}, "treshold is not known; there are pretrained"),
        (json.loads('{"trust_remote_code": true}'), "runs no code of a checkpoint"),
        ({"dtype": "int4"}, "dtype=int4 is not known"),
        ({"batch_size": 0}, "batch_size=0: give a whole number"),
        ({"max_length": 4096}, "context holds 1024 tokens"),
        ({"threshold": "high"}, "threshold=high: give a number"),
        ({"lossless": "maybe"}, "lossless=maybe: give true or false"),
        ({"lossless": True, "state": "copy"}, "state copy has no meaning"),
        ({"judge": "margin", "layers": "three"}, r"layers=three: give exit layers such as \[6,8"),
        ({"judge": "margin", "layers": [3, 99]}, "exit layer 99 is outside"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DynexitLM("reference:mistral", **arguments)


def test_layers_and_batch_size_as_the_command_line_gives_them(mistral: Model) -> None:
    model = DynexitLM(mistral, judge="margin", layers=[4, 8], threshold=1, batch_size="auto")
    assert model.choice.policy is not None
    assert model.choice.policy.layers == (4, 8)
    assert model.batch_size > 1
    assert model.max_length == 1024
    fixed = DynexitLM(mistral, exit_layer=6)
    assert fixed.choice.policy is not None
    assert fixed.choice.policy.layers == (6,)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which cuda means")
def test_without_a_gpu_the_default_of_the_command_line_is_the_cpu() -> None:
    assert DynexitLM("reference:mistral", device="cuda").device == torch.device("cpu")
    assert DynexitLM("reference:mistral").device == torch.device("cpu")


def test_a_tokenizer_without_begin_and_end_is_told(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "bytes", "mamba2")
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    model = DynexitLM(str(directory))
    with pytest.raises(UserError, match="no token that begins or ends texts"):
        model.loglikelihood([request("loglikelihood", "", "Paris")], disable_tqdm=True)


def test_chat_template(mistral: Model) -> None:
    model = DynexitLM(mistral)
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    with pytest.raises(UserError, match="no chat template"):
        model.apply_chat_template(said)
    model.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[it]{% endif %}"
    )
    assert model.apply_chat_template(said) == "[user] Hello\n[it]"
    assert model.chat_template(True) == model.tokenizer.chat_template
    assert "/" not in model.tokenizer_name


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("door", [["dynexit.evaluation.harness"], ["dynexit", "lm-eval"]])
def test_command_line(door: list[str], tasks: Path, tmp_path: Path) -> None:
    arguments = "pretrained=reference:mistral,judge=mamba,threshold=0.9,dtype=float32"
    done = run_command(
        *door,
        *("--model", "dynexit", "--model_args", arguments, "--tasks", f"{ANSWERS},{CHOICES}"),
        *("--include_path", str(tasks), "--output_path", str(tmp_path), "--log_samples"),
    )
    assert done.returncode == 0, done.stderr
    assert ANSWERS in done.stdout
    (path,) = tmp_path.rglob("results_*.json")
    results = json.loads(path.read_text())
    assert results["config"]["dynexit"]["tasks"][ANSWERS]["generated"]["layer_saving"] > 0.0
    same = {"pretrained": "reference:mistral", "judge": "mamba", "threshold": 0.9}
    assert results["results"][CHOICES]["acc,none"] == pytest.approx(
        evaluate("dynexit", same, tasks)["results"][CHOICES]["acc,none"]
    )
    assert len(list(tmp_path.rglob(f"samples_{ANSWERS}_*.jsonl"))) == 1


@pytest.mark.slow
def test_a_mistake_on_the_command_line_is_one_line(tasks: Path) -> None:
    done = run_command(
        *("dynexit.evaluation.harness", "--model", "dynexit"),
        *("--model_args", "pretrained=reference:gpt", "--tasks", ANSWERS),
        *("--include_path", str(tasks)),
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("dynexit: reference:gpt: no such reference")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_all_of_truthfulqa(tmp_path: Path) -> None:
    file = Path(os.environ.get(DATA, "")) / "TruthfulQA.csv"
    if not file.is_file():
        pytest.skip(f"{DATA} names no directory with TruthfulQA.csv")
    count = write_truthfulqa(tmp_path, file)
    assert count == 817
    arguments = {"pretrained": "reference:mamba2", "judge": "mamba", "threshold": 0.9}
    names = [TRUTHFUL_ANSWERS, TRUTHFUL_CHOICES]
    results = evaluate("dynexit", arguments, tmp_path, names, batch=32)
    for name in names:
        assert len(results["samples"][name]) == results["n-samples"][name]["effective"] == count
    tokens = results["config"]["dynexit"]["tasks"]
    assert tokens[TRUTHFUL_ANSWERS]["generated"]["tokens"] >= count
    assert tokens[TRUTHFUL_CHOICES]["scored"]["layer_saving"] > 0.2
    assert all(sample["resps"][0][0] for sample in results["samples"][TRUTHFUL_ANSWERS])
