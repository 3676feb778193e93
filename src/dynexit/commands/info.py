"""``dynexit info``: what a model is made of and what a token costs, from its config alone."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.options import Json, Model
from dynexit.commands.output import out, print_json

if TYPE_CHECKING:
    from dynexit.models.config import BackboneConfig, LayerConfig


def info(
    model: Model,
    context: Annotated[
        int,
        typer.Option(
            "--context", metavar="N", min=0, help="Tokens before the one whose cost is told."
        ),
    ] = 512,
    json: Json = False,
) -> None:
    """Show a model's shape, parameters, and the bytes and FLOPs of a token.

    Only config.json is read, so it is quick for a model of any size.

    Example: `dynexit info reference:mamba2`
    """
    config = _read_config(model)
    data = describe(model, config, context)
    if json:
        print_json(data)
    else:
        _show(data)


def describe(name: str, config: BackboneConfig, context: int) -> dict[str, Any]:
    """All that the command tells. Costs are those of one token at full depth, batch of one."""
    from dynexit.models.cost import layer_cost, layer_parameters, parameters, token_cost

    cost = token_cost(config, config.depth, context)
    kinds = [_mixer(layer) for layer in config.layers]
    table = []
    for index, layer in enumerate(config.layers):
        one = layer_cost(config, index, context)
        table.append(
            {
                "layer": index + 1,
                "mixer": kinds[index],
                "mlp": layer.mlp is not None,
                "parameters": layer_parameters(config, index),
                "bytes": one.bytes,
                "flops": one.flops,
            }
        )
    return {
        "model": name,
        "family": config.family,
        "layers": config.depth,
        "hidden": config.hidden,
        "vocab": config.vocab,
        "parameters": parameters(config),
        "dtype": str(config.dtype).removeprefix("torch."),
        "quantization": _quantization(config),
        "max_positions": config.max_positions,
        "mixers": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "context": context,
        "bytes_per_token": cost.bytes,
        "flops_per_token": cost.flops,
        "layer_table": table,
    }


def _read_config(name: str) -> BackboneConfig:
    from pathlib import Path

    from dynexit.models.hub import resolve_model
    from dynexit.models.loading import read_config

    local = name.startswith("reference:") or Path(name).expanduser().exists()
    return read_config(resolve_model(name) if local or name.count("/") != 1 else _from_hub(name))


def _from_hub(name: str) -> Any:
    """The hub's config.json alone; the weights stay where they are."""
    from pathlib import Path

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from dynexit.errors import UserError

    try:
        return Path(hf_hub_download(name, "config.json")).parent
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{name}: no such directory, and the hub did not give it ({reason})"
        ) from None


def _quantization(config: BackboneConfig) -> dict[str, int] | None:
    found = config.quantization
    if found is None:
        return None
    return {"bits": found.bits} | ({"group": found.group} if found.bits == 4 else {})


def _mixer(layer: LayerConfig) -> str:
    return "none" if layer.mixer is None else type(layer.mixer).__name__[: -len("Config")].lower()


def _show(data: dict[str, Any]) -> None:
    from rich.table import Table

    from dynexit.reporting.tables import quantity

    mixers = ", ".join(f"{count} {kind}" for kind, count in data["mixers"].items())
    dtype = data["dtype"]
    if data["quantization"] is not None:
        dtype = f"{data['quantization']['bits']} bits, the rest {dtype}"
    head = Table(show_header=False, box=None, pad_edge=False)
    head.add_column(style="dim")
    head.add_column()
    for label, value in (
        ("family", f"{data['family']} ({mixers})"),
        ("layers x hidden", f"{data['layers']} x {data['hidden']}"),
        ("vocabulary", str(data["vocab"])),
        ("parameters", quantity(data["parameters"])),
        ("dtype", dtype),
        ("context", str(data["max_positions"] or "unlimited")),
        ("a token reads", quantity(data["bytes_per_token"], "B")),
        ("a token computes", quantity(data["flops_per_token"], "FLOP")),
    ):
        head.add_row(label, value)
    table = Table(
        title=f"layers, for a token with {data['context']} before it", title_justify="left"
    )
    table.add_column("layers")
    table.add_column("mixer")
    table.add_column("MLP")
    for name in ("parameters", "bytes", "FLOPs"):
        table.add_column(name, justify="right")
    for _, same in groupby(data["layer_table"], lambda r: {**r, "layer": None}):
        rows = list(same)
        first, last = rows[0]["layer"], rows[-1]["layer"]
        span = str(first) if first == last else f"{first} to {last}, each"
        table.add_row(
            span,
            rows[0]["mixer"],
            "yes" if rows[0]["mlp"] else "no",
            quantity(rows[0]["parameters"]),
            quantity(rows[0]["bytes"], "B"),
            quantity(rows[0]["flops"]),
        )
    console = out()
    console.print(head)
    console.print(table)
