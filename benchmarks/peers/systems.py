"""What is compared: which system, with which weights, told to do what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynexit.exits.judge import default_layers

NEVER = 2.0  # no score gets there
SHARES = (0.25, 0.5, 0.6, 0.75)  # of the depth, at which every token leaves


@dataclass(frozen=True)
class System:
    """One way of decoding. Of several with the same ``row``, the fastest counts.

    ``weights`` names the files that the ``worker`` loads, ``process`` the process if several are to
    have one each. A speedup and a realised saving compare with the row ``full``. Rows of different
    ``case`` are not compared.
    """

    row: str
    peer: str
    weights: str
    worker: str
    options: Mapping[str, Any] = field(default_factory=dict)
    candidate: str = ""
    process: str = ""
    layer: int | None = None
    full: str | None = None
    case: str = ""

    @property
    def name(self) -> str:
        name = f"{self.row} ({self.candidate})" if self.candidate else self.row
        return f"{self.case}: {name}" if self.case else name


def systems(family: str, depth: int) -> list[System]:
    """Everything that knows a family of ``depth`` layers."""
    found = [*_transformers(family), *_llama(), *_dynexit(family, depth)]
    if family == "mistral":
        found += [*_economize(depth), *_tide(depth)]
    return found


def _transformers(family: str) -> Iterator[System]:
    # the states of Mamba have one size: its cache is static whatever it is called
    caches = ("dynamic", "static") if family == "mistral" else ("dynamic",)
    for cache in caches:
        for compiled in (False, True):
            if compiled and cache == "dynamic" and family == "mistral":
                continue  # compiled anew for every length
            name = f"{cache} cache{', compiled' * compiled}"
            options = {"cache": cache, "compile": compiled}
            yield System(
                "transformers", "transformers", "bf16", "transformers_worker.py", options, name
            )


def _llama() -> Iterator[System]:
    for kind in ("BF16", "Q8_0", "Q4_0", "Q4_K"):
        for repack in (True, False):
            name = "repacked" if repack else "as in the file"
            yield System(
                f"llama.cpp {kind}",
                "llama.cpp",
                kind,
                "llama_worker.py",
                {"repack": repack},
                name,
                process=name,
            )


def _dynexit(family: str, depth: int) -> Iterator[System]:
    for bits in ("bf16", "int8", "int4"):
        yield _ours(f"dynexit {bits}", bits)
        for share in SHARES if bits == "bf16" else (0.6,):
            layer = math.ceil(share * depth)
            states = ("recompute", "propagate") if bits == "bf16" else ("recompute",)
            for state in states:
                yield _leaving(f"all leave at {layer}, {state}", bits, "fixed", (layer,), state)
    half, every = depth // 2, default_layers(depth)
    yield _leaving(f"margin, all leave at {half}", "bf16", "margin", (half,))
    yield _leaving(f"saturation, all leave at {half}", "bf16", "saturation", (half - 1, half))
    for judge in ("mamba", "ffn", "linear", "margin", "saturation"):
        yield _staying(f"{judge} at {len(every)} exits, none leaves", judge, every)
    if family == "mistral":  # as economize checks
        later = tuple(range(half, depth))
        for judge in ("margin", "saturation"):
            yield _staying(f"{judge} after every layer from {half}, none leaves", judge, later)


def _ours(row: str, bits: str, options: Mapping[str, Any] | None = None, **more: Any) -> System:
    return System(row, "dynexit", bits, "dynexit_worker.py", options or {}, **more)


def _leaving(
    what: str, bits: str, judge: str, layers: tuple[int, ...], state: str = "recompute"
) -> System:
    """Every token leaves at the last of ``layers``."""
    thresholds = [NEVER] * (len(layers) - 1) + [0.0]
    options = {"judge": judge, "layers": layers, "thresholds": thresholds, "state": state}
    full = f"dynexit {bits}"
    return _ours(f"dynexit {bits}, {what}", bits, options, layer=layers[-1], full=full)


def _staying(what: str, judge: str, layers: tuple[int, ...]) -> System:
    """Every exit is checked and none is taken."""
    options = {
        "judge": judge,
        "layers": layers,
        "thresholds": [NEVER] * len(layers),
        "state": "recompute",
    }
    return _ours(f"dynexit bf16, {what}", "bf16", options)


def _economize(depth: int) -> Iterator[System]:
    half = depth // 2
    for measure in ("state", "softmax"):
        row = f"economize CALM {measure}"
        never, always = (
            {"confidence": measure, "threshold": threshold, "min_layer": half}
            for threshold in (1.0, 0.0)
        )
        yield System(f"{row}, none leaves", "economize", "bf16", "economize_worker.py", never)
        yield System(
            f"{row}, all leave at {half}",
            "economize",
            "bf16",
            "economize_worker.py",
            always,
            layer=half,
            full="economize CALM state, none leaves",
        )


def _tide(depth: int) -> Iterator[System]:
    half = depth // 2
    for what, threshold in (("none leaves", 0.9), (f"all leave at {half}", 0.1)):
        yield System(
            f"TIDE, {what}",
            "TIDE",
            "bf16",
            "tide_worker.py",
            {"layer": half, "threshold": threshold},
            layer=half if threshold < 0.5 else None,
        )
