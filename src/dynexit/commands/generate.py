"""``dynexit generate``: decode one prompt and tell where each token left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load_stage
from dynexit.commands.options import (
    SAMPLING_PANEL,
    DecideEvery,
    Device,
    Dtype,
    ExitLayer,
    Exits,
    Json,
    Judge,
    Layers,
    Lossless,
    MaxDraft,
    Model,
    RepetitionPenalty,
    Risk,
    Screen,
    Seed,
    State,
    Strict,
    Temperature,
    Threshold,
    TopK,
    TopP,
    VerifyBelow,
    VerifyEvery,
    drafting_settings,
    whole_numbers,
)
from dynexit.commands.output import out, print_json, said_by_first
from dynexit.commands.prompt import read_prompt, unescaped
from dynexit.evaluation.certified import certified_drafting, choose_certified
from dynexit.exits.choice import Choice, Wish

if TYPE_CHECKING:
    from dynexit.inference.generation import Generation
    from dynexit.inference.settings import GenerationSettings
    from dynexit.inference.speculative.settings import Lossless as LosslessSettings
    from dynexit.models.loading import Model as LoadedModel


def generate(
    model: Model,
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT",
            help="Text to go on from; \\n in it is a line end, \\t a tab, \\\\ a backslash. "
            "- reads standard input as it is.",
            show_default=False,
        ),
    ],
    exits: Exits = None,
    judge: Judge = None,
    threshold: Threshold = None,
    risk: Risk = None,
    exit_layer: ExitLayer = None,
    layers: Layers = None,
    state: State = "recompute",
    decide_every: DecideEvery = 1,
    screen: Screen = None,
    lossless: Lossless = False,
    max_draft: MaxDraft = None,
    strict: Strict = False,
    verify_every: VerifyEvery = None,
    verify_below: VerifyBelow = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest answer.")
    ] = 64,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            "--min-p",
            metavar="X",
            help="At least X times the best; 0 is off.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", metavar="TEXT", help="End the answer at TEXT (\\n as in PROMPT); repeatable."
        ),
    ] = None,
    show_depth: Annotated[
        bool, typer.Option("--show-depth", help="Colour each token by the layer it left at.")
    ] = False,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Go on from a prompt, with early exits where a judge or an exit layer is given.

    Without --judge, --exits and --exit-layer every token runs through all layers. The reference
    models have exit sets built in; others need one made by train-exits, or a judge that needs no
    training. With --lossless the exits only draft, and the text is the full model's; --json then
    also decodes at full depth, to tell the speedup.

    Processes that `torchrun` starts share the layers of a model that is too large for one.

    Example: `dynexit generate reference:mistral "Question: What is the capital of
    France?\\nAnswer:" --judge mamba --show-depth`
    """
    from dynexit.inference.settings import from_generation_config
    from dynexit.workers import joined_workers

    text = read_prompt(prompt)
    said: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": tuple(unescaped(one, "--stop") for one in stop or ()),
    }
    from_generation_config({}, **said)  # a mistake shows before the model is read
    chosen = None if layers is None else whole_numbers("--layers", layers)
    how = drafting_settings(lossless, max_draft, strict, verify_every, verify_below)
    wish = Wish(exits, judge, threshold, exit_layer, chosen, state, decide_every, screen, lossless)
    with joined_workers() as workers, said_by_first(workers):
        loaded = load_stage(model, dtype, device, workers)
        settings = from_generation_config(loaded.generation, **said)
        choice = choose_certified(loaded, wish, risk)
        how = certified_drafting(choice, how)
        if json:
            print_json(_measured(loaded, text, settings, choice, how))
        else:
            _show(loaded, text, settings, choice, how, show_depth)


def _measured(
    model: LoadedModel,
    text: str,
    settings: GenerationSettings,
    choice: Choice,
    how: LosslessSettings | None,
) -> dict[str, Any]:
    """All that ``--json`` prints; lossless decoding is timed against plain decoding beside it."""
    from dynexit.inference.generate import generate as decode
    from dynexit.inference.speculative.timing import timed

    if how is None:
        return describe(decode(model, text, settings, choice.policy)[0], model, choice)
    made = timed(model, text, settings, choice.policy, how)
    drafting = made.generation.drafting
    return describe(made.generation, model, choice) | {
        "draft_tokens": drafting.drafts if drafting else 0,
        "accepted_tokens": drafting.accepted if drafting else 0,
        "acceptance_rate": drafting.acceptance_rate if drafting else 0.0,
        "mean_acceptance_length": drafting.mean_acceptance_length if drafting else 0.0,
        "speedup": made.speedup,
        "lossless": how.exact,
    }


def describe(generation: Generation, model: LoadedModel, choice: Choice) -> dict[str, Any]:
    """All that ``--json`` prints."""
    from dynexit.inference.cost import decoding_cost

    cost = decoding_cost(generation, model.backbone.config, choice.policy)
    return {
        "text": generation.text,
        "tokens": [
            {"id": t.id, "text": t.text, "exit_layer": t.exit_layer, "score": t.score}
            for t in generation.tokens
        ],
        "mean_exit_layer": generation.mean_exit_layer,
        "layers": generation.layers,
        "layer_saving": generation.layer_saving,
        "flop_saving": cost.flop_saving,
        "byte_saving": cost.byte_saving,
        "tokens_per_second": generation.tokens_per_second,
        "prompt_tokens": generation.prompt_tokens,
        "finish": generation.finish,
        "invalid_scores": generation.invalid_scores,
        "judge": choice.judge,
        "state": choice.state,
        "threshold": choice.threshold,
    }


def _show(
    model: LoadedModel,
    text: str,
    settings: GenerationSettings,
    choice: Choice,
    how: LosslessSettings | None,
    show_depth: bool,
) -> None:
    """The answer as it comes, then a line of numbers on standard error."""
    from rich.console import Console
    from rich.text import Text

    from dynexit.inference.generate import stream
    from dynexit.reporting.depth import depth_legend, depth_summary, depth_token

    console, depth = out(), model.backbone.depth
    plain = not console.is_terminal or console.no_color
    answer = stream(model, text, settings, choice.policy, how)
    for token in answer:
        piece = Text(token.text)
        if show_depth:
            piece = depth_token(token.text, token.exit_layer, depth, number=plain)
        console.print(piece, end="", soft_wrap=True)
        console.file.flush()
    console.print()
    result = answer.result
    if show_depth:
        console.print(depth_legend([t.exit_layer for t in result.tokens], depth))
    Console(stderr=True, highlight=False).print(depth_summary(result), style="dim")
