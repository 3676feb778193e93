"""An exit set: a fitted judge with all that decoding needs to use it, as a directory.

``exits.json`` says what it is and which backbone it belongs to, ``exits.safetensors`` holds the
weights of the judge and, if there are any, of the translators. Calibration adds its own file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from dynexit.digests import bytes_digest, file_digest
from dynexit.errors import UserError
from dynexit.exits.exit_file import Fields
from dynexit.exits.fingerprint import Fingerprint, fingerprint
from dynexit.exits.judge import Judge, check_layers
from dynexit.exits.judges import build_judge
from dynexit.exits.translator import Translators
from dynexit.files import atomic_directory, read_json, write_json
from dynexit.models import Backbone

FORMAT = 1
_LARGEST_OPTION = 1 << 16  # far beyond use; no size of a judge overflows with it
_JSON, _WEIGHTS = "exits.json", "exits.safetensors"


@dataclass(frozen=True)
class ExitMetrics:
    """How a judge does at one exit, on the tokens that get there.

    ``positives`` is the share of tokens that may leave there, ``accuracy`` the share that a
    threshold of 0.5 sorts right; ``auroc`` is None where all labels are the same.
    """

    layer: int
    positives: float
    auroc: float | None
    accuracy: float


@dataclass(frozen=True)
class ExitSet:
    """A judge, its thresholds (one per exit; above 1 means never), the state policy it is meant to
    go with, and how it came about."""

    judge: Judge
    thresholds: tuple[float, ...]
    state: str
    translators: Translators | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[ExitMetrics, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        return self.judge.layers


def save_exit_set(directory: Path, exits: ExitSet, backbone: Backbone) -> None:
    """Write ``exits`` to ``directory``, whole or not at all; an earlier exit set is replaced."""
    weights = _weights("judge.", exits.judge) | _weights("translators.", exits.translators)
    content = {
        "format": FORMAT,
        "backbone": asdict(fingerprint(backbone)),
        "layers": list(exits.layers),
        "judge": {"kind": exits.judge.kind, "options": getattr(exits.judge, "options", {})},
        "thresholds": list(exits.thresholds),
        "state": exits.state,
        "translators": exits.translators is not None,
        "recipe": dict(exits.recipe),
        "metrics": [asdict(metrics) for metrics in exits.metrics],
    }
    with atomic_directory(directory, marker=_JSON) as temporary:
        save_file(weights, temporary / _WEIGHTS)
        content["sha256"] = file_digest(temporary / _WEIGHTS)
        write_json(temporary / _JSON, content)


def load_exit_set(directory: Path, backbone: Backbone) -> ExitSet:
    """Read an exit set for ``backbone``, or ``UserError`` if it is another backbone's or broken."""
    path = Path(directory) / _JSON
    if not path.exists():
        raise UserError(f"{directory} holds no exit set ({_JSON} is missing); train one first")
    fields = Fields(path, read_json(path))
    if fields.integer("format") != FORMAT:
        raise UserError(f"{path}: format {fields.integer('format')} is unknown; update dynexit")
    _check_backbone(path, fields.within("backbone"), backbone)
    with _naming(path):
        layers = check_layers(fields.integers("layers"), backbone.depth)
    thresholds = tuple(fields.numbers("thresholds"))
    if len(thresholds) != len(layers):
        raise UserError(f"{path}: {len(thresholds)} thresholds for {len(layers)} exit layers")
    judge, translators = _load_modules(path, fields, layers, backbone)
    metrics = [_metrics(fields.item("metrics", i)) for i in range(fields.count("metrics"))]
    recipe = fields.within("recipe").content
    return ExitSet(judge, thresholds, fields.text("state"), translators, recipe, tuple(metrics))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file before the message of a ``UserError`` that knows only the value."""
    try:
        yield
    except UserError as error:
        message = str(error)
        raise UserError(message if str(path) in message else f"{path}: {message}") from None


def _check_backbone(path: Path, fields: Fields, backbone: Backbone) -> None:
    theirs = Fingerprint(
        fields.text("family"),
        fields.integer("depth"),
        fields.integer("hidden"),
        fields.integer("vocab"),
        fields.text("digest"),
    )
    ours = fingerprint(backbone)
    if theirs != ours:
        raise UserError(
            f"{path.parent}: this exit set was {theirs.difference(ours)}; train one for this model"
        )


def _load_modules(
    path: Path, fields: Fields, layers: tuple[int, ...], backbone: Backbone
) -> tuple[Judge, Translators | None]:
    shape = fields.within("judge")
    given = shape.within("options")
    options = {name: given.integer(name) for name in given.content}
    hidden, device = backbone.config.hidden, backbone.device
    kind = shape.text("kind")
    for name, value in options.items():
        if not 1 <= value <= _LARGEST_OPTION:
            raise UserError(f"{path}: judge {kind!r} cannot have {name} {value}; mend the file")
    digest = fields.text("sha256") if "sha256" in fields.content else None
    weights = _read_weights(path.parent / _WEIGHTS, digest)
    with _naming(path), torch.device("meta"):  # no memory for sizes that the file does not have
        outline = build_judge(kind, layers, hidden, "meta", options)
    _check_shapes(path.parent / _WEIGHTS, outline, weights)
    judge = build_judge(kind, layers, hidden, device, options)
    translators = Translators(layers, hidden) if fields.boolean("translators") else None
    _assign(path.parent / _WEIGHTS, "judge.", judge, weights)
    if translators is not None:
        _assign(path.parent / _WEIGHTS, "translators.", translators, weights)
        translators = translators.to(device).eval().requires_grad_(False)
    return judge, translators


def _metrics(fields: Fields) -> ExitMetrics:
    auroc = None if fields.content.get("auroc") is None else fields.number("auroc")
    return ExitMetrics(
        fields.integer("layer"), fields.number("positives"), auroc, fields.number("accuracy")
    )


def _weights(prefix: str, module: object) -> dict[str, Tensor]:
    if not isinstance(module, nn.Module):
        return {}  # a training-free judge has none
    return {prefix + name: t.detach().contiguous() for name, t in module.state_dict().items()}


def _read_weights(path: Path, digest: str | None) -> dict[str, Tensor]:
    """The tensors of a file, which must be the one that ``digest`` is of (None: not known)."""
    try:
        content = path.read_bytes()
        tensors = load(content)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; train the exits again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); fetch it again"
        ) from None
    if digest is not None and bytes_digest(content) != digest:
        raise UserError(
            f"{path} is not the file that {_JSON} was written with (its SHA-256 differs); "
            "fetch both again or train the exits again"
        )
    return tensors


def _check_shapes(path: Path, outline: Judge, weights: Mapping[str, Tensor]) -> None:
    """Raise ``UserError`` unless a judge of this outline has tensors of the file's shapes."""
    for name, wanted in _weights("judge.", outline).items():
        found = weights.get(name)
        if found is None or found.shape != wanted.shape:
            there = "not in it" if found is None else f"of shape {tuple(found.shape)}"
            raise UserError(
                f"{path} does not fit {_JSON} beside it: {name} should be of shape "
                f"{tuple(wanted.shape)} and is {there}; fetch both again or train the exits again"
            )


def _assign(path: Path, prefix: str, module: object, weights: dict[str, Tensor]) -> None:
    if not isinstance(module, nn.Module):
        return
    own = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(f"{path} does not fit exits.json beside it: {fault}") from None
    module.eval().requires_grad_(False)
