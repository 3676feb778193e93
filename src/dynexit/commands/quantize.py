"""``dynexit quantize``: a copy of a checkpoint with weights of 8 or 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynexit.commands.options import Json, Model
from dynexit.commands.output import counting, out, print_json


def quantize(
    model: Model,
    to: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The new directory.", show_default=False)
    ],
    bits: Annotated[
        int, typer.Option("--bits", metavar="N", help="8: nearly lossless. 4: half of that again.")
    ] = 4,
    group: Annotated[
        int,
        typer.Option(
            "--group",
            metavar="N",
            help="With 4 bits, columns that share a scale: 128, 64 or 32, the last the most exact.",
        ),
    ] = 128,
    json: Json = False,
) -> None:
    """Write a copy of a checkpoint whose matrices have 8 or 4 bits a weight.

    Decoding one text reads every weight for each token, so fewer bytes are more tokens per second.
    All matrices but the embedding are rounded, with the range of each group clipped where that
    lowers the error; no data is needed. The directory is a MODEL as any other: train and calibrate
    exits on it, as those of the original belong to the original. The source is read one tensor at a
    time, so memory holds little of a model of any size.

    Example: `dynexit quantize reference:mamba2 --bits 8 --out mamba2-int8`
    """
    from dynexit.locks import claimed
    from dynexit.models.hub import resolve_model
    from dynexit.models.quantization import QuantizationConfig
    from dynexit.models.quantize import plan_quantization, write_quantized

    config = QuantizationConfig(bits, group)
    plan = plan_quantization(resolve_model(model), config)
    with claimed(to), counting(f"{model}: quantising", len(plan.items)) as tick:
        done = write_quantized(plan, to, tick)
    quantised = sum(item.stem is not None for item in plan.items)
    data = {
        "model": model,
        "bits": bits,
        "group": group if bits == 4 else None,
        "bytes_before": plan.bytes_before,
        "bytes_after": plan.bytes_after,
        "tensors_quantised": quantised,
        "tensors_left": sum(item.kept for item in plan.items),
        "errors": done.mean_errors,
        "seconds": done.seconds,
        "out": str(to),
    }
    if json:
        print_json(data)
        return
    from dynexit.reporting.tables import quantity

    before, after = quantity(plan.bytes_before, "B"), quantity(plan.bytes_after, "B")
    out().print(f"{to}: {quantised} matrices of {bits} bits, {before} before, {after} now")
    for kind, error in done.mean_errors.items():
        out().print(f"  {kind}: relative error {error:.4f}")
