"""Arguments and options that several commands share, so that they mean and read the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynexit.errors import UserError

if TYPE_CHECKING:
    from dynexit.inference.speculative.settings import Lossless as LosslessSettings

EXITS_PANEL = "When a token leaves"
LOSSLESS_PANEL = "The full model's text, faster"
SAMPLING_PANEL = "Choosing the next token"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Directory of a Hugging Face checkpoint, hub id, reference:mistral or "
        "reference:mamba2.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object, and nothing else, on standard output."),
]
Exits = Annotated[
    Path | None,
    typer.Option(
        "--exits",
        metavar="DIR",
        help="Exit set made by train-exits. The reference models have theirs built in.",
        rich_help_panel=EXITS_PANEL,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Who decides: linear, ffn, mamba, shared, depth or predictor (trained), "
        "top-probability, margin, entropy, saturation or patience (need no training), none (full "
        "depth).",
        rich_help_panel=EXITS_PANEL,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="X",
        help="Leave where the judge's score is at least X, from 0 to 1. Default: the exit set's.",
        rich_help_panel=EXITS_PANEL,
    ),
]
Risk = Annotated[
    float | None,
    typer.Option(
        "--risk",
        metavar="R",
        help="Instead of a threshold: the one that calibrate certified for a risk of at most R.",
        rich_help_panel=EXITS_PANEL,
    ),
]
ExitLayer = Annotated[
    int | None,
    typer.Option(
        "--exit-layer",
        metavar="N",
        help="Every token leaves after N layers, without a judge.",
        rich_help_panel=EXITS_PANEL,
    ),
]
Lossless = Annotated[
    bool,
    typer.Option(
        "--lossless",
        help="Exits draft, the full depth verifies: the text is that of the full model.",
        rich_help_panel=LOSSLESS_PANEL,
    ),
]
MaxDraft = Annotated[
    int | None,
    typer.Option(
        "--max-draft",
        metavar="N",
        help="Most drafts verified together; fewer where that pays. Default: 7.",
        rich_help_panel=LOSSLESS_PANEL,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Every token in calls of its own, for the rounding of plain decoding where several at "
        "once round otherwise (a GPU, batches); slow.",
        rich_help_panel=LOSSLESS_PANEL,
    ),
]
VerifyEvery = Annotated[
    int | None,
    typer.Option(
        "--verify-every",
        metavar="K",
        help="Verify every K-th draft only: no longer lossless.",
        rich_help_panel=LOSSLESS_PANEL,
    ),
]
VerifyBelow = Annotated[
    float | None,
    typer.Option(
        "--verify-below",
        metavar="X",
        help="Verify drafts with scores below X only: no longer lossless.",
        rich_help_panel=LOSSLESS_PANEL,
    ),
]
State = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="NAME",
        help="What becomes of skipped layers: copy (transformers), freeze (Mamba), propagate, or "
        "recompute (exact).",
        rich_help_panel=EXITS_PANEL,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="N,N,..",
        help="Exit layers, counted from 1. Default: evenly spaced in the second half.",
        rich_help_panel=EXITS_PANEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="NAME", help="float32, bfloat16 or float16. Default: the checkpoint's."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where to compute: cpu, cuda or cuda:N; auto is a GPU if there is one.",
    ),
]
Screen = Annotated[
    int | None,
    typer.Option(
        "--screen",
        metavar="RANK",
        help="Judges of the readout look at rough logits of this rank first (a sixteenth of the "
        "channels is a good one), and read the vocabulary only where these say leave.",
        rich_help_panel=EXITS_PANEL,
        show_default=False,
    ),
]
DecideEvery = Annotated[
    int,
    typer.Option(
        "--decide-every",
        metavar="N",
        help="Decide at the first exit and every N-th after it: fewer checks, later exits.",
        rich_help_panel=EXITS_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="X",
        help="0 takes the best token. Default: what the checkpoint's generation_config.json says "
        "of this and the rest, else 0.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", metavar="K", help="Among the K best; 0 is off.", rich_help_panel=SAMPLING_PANEL
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="X",
        help="Among the best that hold X; 1 is off.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="X",
        help="Divides scores of tokens seen; 1 is off.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Of sampling.", rich_help_panel=SAMPLING_PANEL),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Only the first N questions a task.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Where the official files of the tasks are."),
]


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """``"6,8,10"`` as numbers; a ``UserError`` names the option."""
    from dynexit.errors import UserError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{option} {text!r}: give whole numbers separated by commas, such as 6,8,10"
        ) from None


def bytes_of(option: str, text: str | None) -> int | None:
    """``"8GB"``, ``"1.5 TB"`` or ``"400000000"`` as bytes; None stays None. GB are 1000^3 bytes."""
    if text is None:
        return None
    units = {"": 0, "B": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4}
    number = text.strip().upper().rstrip("BKMGT")
    unit = text.strip().upper()[len(number) :]
    try:
        size = float(number) * 1000 ** units[unit]
        if 1 <= size < 1e18:
            return int(size)
    except (ValueError, KeyError):
        pass
    raise UserError(f"{option} {text!r}: give a size such as 400MB or 8GB")


def names(text: str) -> list[str]:
    """``"a, b"`` as names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def drafting_settings(
    lossless: bool,
    max_draft: int | None,
    strict: bool,
    verify_every: int | None,
    verify_below: float | None,
) -> LosslessSettings | None:
    """How to draft and verify, None without ``--lossless``."""
    given = {
        "max_draft": max_draft,
        "strict": strict or None,
        "verify_every": verify_every,
        "verify_below": verify_below,
    }
    said = {name: value for name, value in given.items() if value is not None}
    if not lossless:
        for name in said:
            raise UserError(f"--{name.replace('_', '-')} is about --lossless; add that")
        return None
    from dynexit.inference.speculative.settings import Lossless as LosslessSettings

    return LosslessSettings(**said)  # type: ignore[arg-type]
