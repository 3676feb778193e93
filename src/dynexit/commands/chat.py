"""``dynexit chat``: talk with a model and see how deep each token went."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dynexit.commands.options import (
    EXITS_PANEL,
    Device,
    Dtype,
    ExitLayer,
    Exits,
    Json,
    Judge,
    Model,
    RepetitionPenalty,
    Risk,
    Seed,
    State,
    Temperature,
    Threshold,
    TopK,
    TopP,
)
from dynexit.commands.output import note, print_json
from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE, REFERENCE_JUDGE

if TYPE_CHECKING:
    from dynexit.commands.chat_session import Session


def chat(
    model: Model,
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="TEXT", help="What the model is told before all else."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="NAME",
            help="Chat template where the checkpoint has none: questions, or a Jinja2 file.",
        ),
    ] = None,
    exits: Exits = None,
    judge: Judge = None,
    threshold: Threshold = None,
    risk: Risk = None,
    exit_layer: ExitLayer = None,
    state: State = "recompute",
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Draft with exits, verify at full depth.",
            rich_help_panel=EXITS_PANEL,
        ),
    ] = False,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest answer.")
    ] = 256,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Talk with a model; every token has the colour of the layer it left at.

    Lines that begin with / are commands, /help lists them. Ctrl-C stops an answer, Ctrl-D leaves.
    Where standard input is no terminal, each of its lines is a message. A reference model uses its
    Mamba judge unless another is named; other models run at full depth until a judge or an exit
    set is.

    Example: `dynexit chat reference:mistral`
    """
    from dynexit.api import load
    from dynexit.commands.chat_session import Session
    from dynexit.inference.chat_template import load_chat_template

    if judge is None and exits is None and exit_layer is None and model.startswith(REFERENCE):
        judge = REFERENCE_JUDGE
    loaded = load(
        model,
        dtype=dtype,
        device=device,
        exits=exits,
        judge=judge,
        threshold=threshold,
        risk=risk,
        exit_layer=exit_layer,
        state=state,
        lossless=lossless,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    session = Session(loaded, load_chat_template(loaded.model, template), system)
    if sys.stdin.isatty() and sys.stdout.isatty() and not json:
        from dynexit.commands.chat_screen import Screen

        Screen(session).run()
    else:
        _answer_lines(session, quiet=json)
    if json:
        print_json(session.describe())


def _answer_lines(session: Session, quiet: bool) -> None:
    """Answer each line of standard input, on standard output unless ``quiet``."""
    from dynexit.commands.chat_words import Leave, obey

    for line in _lines():
        if line.startswith("/"):
            try:
                note(obey(session, line))
            except Leave:
                return
            continue
        stream = session.ask(line)
        for _ in stream:
            pass
        answer = session.keep(line, stream.result)
        if not quiet:
            print(answer.text.strip(), flush=True)


def _lines() -> Iterator[str]:
    """Lines of standard input with anything in them."""
    for number, raw in enumerate(sys.stdin.buffer, 1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise UserError(f"standard input: line {number} is not UTF-8 text") from None
        if line:
            yield line
