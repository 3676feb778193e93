"""What sweeps left in their directories, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynexit.calibration.certificate import FILE, load_certificates
from dynexit.errors import UserError
from dynexit.files import read_json
from dynexit.reporting.report.record import Record, read_records
from dynexit.reporting.report.sweep import Example, Point, Reliability, Sweep, Token

SCHEMA = 1
# Figures of a point that may be missing.
_SHARES = ("mean_exit_layer", "layer_saving", "byte_saving", "speedup", "replayed")


def load_sweeps(directories: Sequence[Path]) -> list[Sweep]:
    """The sweeps in order; backbones of one name and different weights get names of their own."""
    if not directories:
        raise UserError("no sweep to report on; name the directory of one")
    unique = dict.fromkeys(Path(directory).resolve() for directory in directories)
    named = [(directory, _about(directory)) for directory in unique]
    prints: dict[str, set[str]] = {}
    for _, about in named:
        prints.setdefault(_name(about), set()).add(_fingerprint(about))
    sweeps = []
    for directory, about in named:
        name = _name(about)
        if len(prints[name]) > 1:
            name = f"{name} ({_fingerprint(about)[:8]})"
        sweeps.append(_sweep(directory, about, name))
    return sweeps


def _about(directory: Path) -> dict[str, Any]:
    path = directory / "sweep.json"
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; name the one that a sweep wrote")
    if not path.is_file():
        raise UserError(f"{directory} has no sweep.json; name the directory that a sweep wrote")
    about = read_json(path)
    if about.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: schema {about.get('schema')!r} is not {SCHEMA}; sweep again, "
            "or read it with the version of dynexit that wrote it"
        )
    Record(str(path), about).text("model")
    return about


def _name(about: Mapping[str, Any]) -> str:
    """A checkpoint's directory by its last part; hub ids and ``reference:`` names as they are."""
    model = str(about["model"])
    return Path(model).name if Path(model).is_absolute() or model.startswith(".") else model


def _fingerprint(about: Mapping[str, Any]) -> str:
    """The digest of the weights, given alone or among the facts of a backbone."""
    told = about.get("fingerprint", "")
    return str(told.get("digest", "") if isinstance(told, dict) else told)


def _sweep(directory: Path, about: Mapping[str, Any], name: str) -> Sweep:
    points: dict[str, Point] = {}
    for row in read_records(directory / "points.jsonl"):
        point = _point(row, name)
        # two sweeps at once may have written a row twice: the first counts, as in the sweep
        points.setdefault(str(row.fields.get("id", row.place)), point)
    if not points:
        raise UserError(f"{directory} has no points in points.jsonl; let the sweep run first")
    depth = next(iter(points.values())).depth
    return Sweep(
        directory,
        name,
        about,
        tuple(points.values()),
        tuple(_reliability(r, name, depth) for r in read_records(directory / "reliability.jsonl")),
        tuple(_example(r, name, depth) for r in read_records(directory / "examples.jsonl")),
        tuple(
            certificate
            for path in sorted(directory.rglob(FILE))
            for certificate in load_certificates(path.parent)
        ),
    )


def _point(row: Record, name: str) -> Point:
    if row.fields.get("schema", SCHEMA) != SCHEMA:
        raise row.wrong("schema", str(SCHEMA))
    consistency = row.object("consistency")
    consistency.number("answers")
    shares = {share: row.maybe(share) for share in _SHARES}
    exits = row.object("exit_layers").numbers()
    try:
        exit_layers = {int(layer): int(count) for layer, count in exits.items()}
    except ValueError:
        raise row.wrong("exit_layers", "tokens by layer") from None
    return Point(
        backbone=name,
        judge=row.text("judge"),
        top_k=_optional(row, "top_k"),
        seeds=() if (seed := _optional(row, "seed")) is None else (seed,),
        layers=_layers(row),
        depth=row.whole("depth"),
        state=row.text("state"),
        threshold=_threshold(row),
        task=row.text("task"),
        n=row.whole("n"),
        metrics=row.object("metrics").numbers(),
        full_metrics=row.object("full_metrics").numbers(),
        consistency=consistency.numbers(),
        flop_saving=row.number("flop_saving"),
        exit_layers=exit_layers,
        questions={
            key: row.object("questions").list(key) for key in row.object("questions").fields
        },
        **shares,
    )


def _optional(row: Record, name: str) -> int | None:
    return None if row.fields.get(name) is None else row.whole(name)


def _layers(row: Record) -> tuple[int, ...]:
    layers = row.list("layers")
    if not all(isinstance(layer, int) for layer in layers):
        raise row.wrong("layers", "a list of layers")
    return tuple(layers)


def _threshold(row: Record) -> float | tuple[float, ...] | None:
    value = row.fields.get("threshold")
    if isinstance(value, list) and all(isinstance(part, int | float) for part in value):
        return tuple(float(part) for part in value)
    return row.maybe("threshold")


def _reliability(row: Record, name: str, depth: int) -> Reliability:
    try:
        bins = tuple((float(s), float(r), int(c)) for s, r, c in row.list("bins"))
    except (TypeError, ValueError, OverflowError):
        raise row.wrong("bins", "a list of [mean score, share, count]") from None
    return Reliability(
        backbone=name,
        judge=row.text("judge"),
        top_k=_optional(row, "top_k"),
        seed=_optional(row, "seed"),
        task=row.text("task"),
        exit_layer=row.whole("exit_layer"),
        depth=depth,
        bins=bins,
        auroc=row.maybe("auroc"),
        ece=row.maybe("ece"),
    )


def _example(row: Record, name: str, depth: int) -> Example:
    tokens = []
    for fields in row.list("tokens"):
        token = Record(f"{row.place}, tokens", fields if isinstance(fields, dict) else {})
        tokens.append(Token(token.text("text"), token.whole("exit_layer"), token.maybe("score")))
    return Example(
        backbone=name,
        depth=depth,
        judge=row.text("judge"),
        state=row.text("state"),
        threshold=_threshold(row),
        task=row.text("task"),
        prompt=row.text("prompt"),
        full_text=row.text("full_text"),
        text=row.text("text"),
        tokens=tuple(tokens),
    )
