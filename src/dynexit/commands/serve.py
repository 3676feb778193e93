"""``dynexit serve``: an OpenAI-compatible server with early exits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load
from dynexit.commands.options import Device, Dtype, Exits, Judge, Model, Risk, State, Threshold
from dynexit.commands.output import note
from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE, REFERENCE_JUDGE, Wish

if TYPE_CHECKING:
    from dynexit.exits.choice import Choice
    from dynexit.inference.chat_template import ChatTemplate
    from dynexit.models.loading import Model as LoadedModel
    from dynexit.serving.depths import Depths

ADDRESS_PANEL, LOAD_PANEL = "Where, and for whom", "How much at once"
KEY_VARIABLE = "DYNEXIT_API_KEY"


def _address(help: str, *names: str, metavar: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=ADDRESS_PANEL, **more)


def _load(help: str, *names: str, metavar: str = "N") -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=LOAD_PANEL)


def serve(
    model: Model,
    exits: Exits = None,
    judge: Judge = None,
    threshold: Threshold = None,
    risk: Risk = None,
    state: State = "recompute",
    host: Annotated[
        str, _address("0.0.0.0 is every network there is.", "--host", metavar="HOST")
    ] = "127.0.0.1",
    port: Annotated[int, _address("0 is any free one.", "--port", metavar="PORT")] = 8000,
    api_key: Annotated[
        str | None,
        _address(
            "Answer only requests with this key; better given by the variable, which no list of "
            "processes shows.",
            "--api-key",
            metavar="KEY",
            envvar=KEY_VARIABLE,
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        _address(
            "Let pages of this origin ask, such as https://chat.example; repeatable. Default: "
            "only the server's own page.",
            "--cors",
            metavar="ORIGIN",
        ),
    ] = None,
    template: Annotated[
        str | None,
        _address(
            "How a conversation becomes a prompt: questions (Question: .. Answer: ..) or a file "
            "with a Jinja2 template. Default: the checkpoint's.",
            "--template",
            metavar="NAME",
        ),
    ] = None,
    name: Annotated[
        str | None,
        _address(
            "What clients call the model. Default: MODEL, of a path its last part.",
            "--name",
            metavar="NAME",
        ),
    ] = None,
    max_batch: Annotated[int, _load("Texts decoded together.", "--max-batch")] = 8,
    max_queue: Annotated[
        int, _load("Texts that may wait; more are refused with 429.", "--max-queue")
    ] = 64,
    max_context: Annotated[
        int, _load("Most tokens of a text, prompt and answer.", "--max-context")
    ] = 4096,
    time_limit: Annotated[
        float, _load("Longest time a request may take.", "--time-limit", metavar="SECONDS")
    ] = 300.0,
    target_ms: Annotated[
        float | None,
        _load(
            "Under load, let tokens leave earlier along the certified risks of calibrate so that "
            "a token takes no longer than that; back when load is gone. Off by default.",
            "--target-ms",
            metavar="MS",
        ),
    ] = None,
    threads: Annotated[
        int | None, _load("Cores to compute with. Default: all.", "--threads")
    ] = None,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Serve a model to any OpenAI client, many texts at once, each token as deep as it must be.

    The reference models have exits built in and use them; others need --exits or --judge, and run
    at full depth without. Requests may set threshold, risk or lossless. There is a page to try at
    the address itself, numbers at /metrics and the state at /health. Logs are lines of JSON on
    standard error, without any text of a user. Ctrl-C or SIGTERM ends it when all it has taken is
    answered; a second one at once.

    Example: `dynexit serve reference:mistral --port 8000`

    Example: `curl localhost:8000/v1/chat/completions -H 'content-type: application/json' -d
    '{"model": "reference:mistral", "messages": [{"role": "user", "content": "Who are you?"}]}'`
    """
    server = _server()
    from dynexit.models.device import using_threads
    from dynexit.serving.limits import Limits
    from dynexit.serving.logs import log_to_stderr

    limits = Limits(max_batch, max_queue, max_context, time_limit)
    if api_key is not None and not (api_key.isascii() and api_key.strip()):
        raise UserError("--api-key must be ASCII text that is not blank")
    _check_origins(cors or [])
    with using_threads(threads):
        place = server.listen(host, port)
        loaded = load(model, dtype, device)
        choice, depths = _depths(loaded, Wish(exits, judge, threshold, state=state), risk)
        target = None
        if target_ms is not None:
            target, depths = _target(
                target_ms, depths, certified=threshold is None and risk is None
            )
        known_as = name or _name(model)
        plan = server.Plan(
            loaded,
            known_as,
            depths,
            _template(loaded, template),
            limits,
            api_key,
            tuple(cors or ()),
            target,
        )
        address = place.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        print(f"{known_as} at http://{shown}:{address[1]}, {_words(choice, depths)}", flush=True)
        log_to_stderr()
        server.serve(plan, place)


def _check_origins(origins: list[str]) -> None:
    for origin in origins:
        scheme, _, rest = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not rest or "/" in rest):
            raise UserError(f"--cors {origin}: give an origin such as https://chat.example, or *")


def _server() -> Any:
    """The module that runs it, where what it needs is installed."""
    try:
        from dynexit.serving import server
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve needs {error.name}; install it with: pip install 'dynexit[serve]'"
        ) from None
    return server


def _depths(model: LoadedModel, wish: Wish, risk: float | None) -> tuple[Choice, Depths]:
    """How deep tokens go, and what was certified of it."""
    from dynexit.evaluation.certified import choose_certified
    from dynexit.exits.judges import TRAINED_JUDGES
    from dynexit.reference.pair import exits_directory
    from dynexit.serving.depths import Depths, load_ladder

    shipped = model.name.startswith(REFERENCE) and wish.exits is None
    if shipped and wish.judge is None:
        wish = replace(wish, judge=REFERENCE_JUDGE)
    choice = choose_certified(model, wish, risk)
    if choice.policy is None:
        return choice, Depths()
    place = wish.exits
    if shipped and choice.judge in TRAINED_JUDGES:
        place = exits_directory(model.name.removeprefix(REFERENCE), choice.judge)
    if place is None:
        return choice, Depths(choice.policy)
    ladder = load_ladder(place, model.backbone, choice.policy, choice.judge)
    return choice, Depths(choice.policy, ladder)


def _target(milliseconds: float, depths: Depths, *, certified: bool) -> tuple[float, Depths]:
    """Seconds a token, and the depths to start from: where the user names no threshold the
    strictest that is ``certified``, so that every level has its certificate."""
    if not milliseconds > 0:
        raise UserError(f"--target-ms {milliseconds:g}: give milliseconds above 0")
    if certified and depths.policy is not None and depths.ladder:
        strictest = replace(depths.policy, thresholds=depths.ladder[0].thresholds)
        depths = replace(depths, policy=strictest)
    if len(depths.levels) < 2:
        raise UserError(
            "--target-ms needs certified thresholds below the server's own; make them with "
            "'dynexit calibrate --risk 0.01,0.02,0.05', or start with a stricter --risk"
        )
    return milliseconds / 1000, depths


def _template(model: LoadedModel, wanted: str | None) -> ChatTemplate | None:
    from dynexit.inference.chat_template import load_chat_template

    try:
        return load_chat_template(model, wanted)
    except UserError as error:
        if wanted is not None:
            raise
        note(f"dynexit: no /v1/chat/completions: {error}")
        return None


def _name(model: str) -> str:
    """What clients call the model: the last part of a directory's path, else the name itself."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _words(choice: Choice, depths: Depths) -> str:
    """What becomes of a token, for the person who starts it."""
    if choice.policy is None:
        return "full depth: there are no exits, give --exits or --judge"
    layers = ",".join(map(str, choice.policy.layers))
    risks = ", ".join(f"{rung.risk:g}" for rung in depths.ladder)
    certified = f", certified risks {risks}" if risks else ""
    return f"judge {choice.judge} at layers {layers}, state {choice.state}{certified}"
