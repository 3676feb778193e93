"""A sweep's directory of made-up numbers that hang together, by the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dynexit.calibration.certificate import Certificate, save_certificates
from dynexit.exits.fingerprint import Fingerprint

LAYERS, DEPTH = (3, 6, 9), 12
TASKS = ("trivia", "stories", "misconceptions")
JUDGES = ("linear", "ffn", "mamba", "top-probability")
THRESHOLDS = (0.5, 0.7, 0.9, 0.97)


def write_sweep(
    directory: Path,
    model: str = "reference:mistral",
    states: tuple[str, ...] = ("recompute", "copy"),
    judges: tuple[str, ...] = JUDGES,
    seeds: tuple[int, ...] = (0,),
    n: int = 40,
    timed: bool = True,
    answer: str = " Paris",
    tasks: tuple[str, ...] = TASKS,
) -> Path:
    """Points, reliability, examples and a certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(model))
    about = {
        "schema": 1,
        "model": model,
        "fingerprint": "f" * 16 + str(len(model)),
        "family": "mamba2" if "mamba" in model else "mistral",
        "depth": DEPTH,
        "command": f"dynexit sweep {model} --judges {','.join(judges)} --limit {n}",
        "date": "2025-01-31T12:00:00+00:00",
        "versions": {"dynexit": "0.1.0", "torch": "2.13.0", "python": "3.12.3"},
        "grid": {"judges": list(judges), "states": list(states), "thresholds": list(THRESHOLDS)},
        "tasks": dict.fromkeys(tasks, n),
        "machine": "AMD EPYC, 2 threads, 16 GB",
    }
    (directory / "sweep.json").write_text(json.dumps(about))
    write_rows(
        directory / "points.jsonl",
        (
            _point(random, model, judge, seed, state, threshold, task, n, timed)
            for judge in judges
            for seed in (seeds if judge != "top-probability" else (None,))
            for state in states
            for threshold in THRESHOLDS
            for task in tasks
        ),
    )
    write_rows(directory / "reliability.jsonl", _reliability(random, judges, tasks))
    write_rows(directory / "examples.jsonl", _examples(random, judges, tasks, answer))
    backbone = Fingerprint("mistral", DEPTH, 8, 16, "d")
    save_certificates(directory, [_certificate(backbone)], backbone)
    return directory


def write_rows(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _point(
    random: np.random.Generator,
    model: str,
    judge: str,
    seed: int | None,
    state: str,
    threshold: float,
    task: str,
    n: int,
    timed: bool,
) -> dict[str, Any]:
    skill = {"linear": 0.5, "ffn": 0.6, "mamba": 0.9}.get(judge, 0.3)
    hard = 0.5 * (1 - threshold) * (1.2 - skill) * (1.0 if state == "recompute" else 1.8)
    level = random.integers(1, 5, n)
    depth = np.clip(3 + 9 * threshold**3 + 0.6 * level - 2 * skill + random.normal(0, 1, n), 3, 12)
    tokens = random.integers(2, 9, n)
    full_flops = 1e6 * tokens * (1 + 0.02 * tokens)
    flops = full_flops * (depth / DEPTH + 0.02)
    same = (random.random(n) > hard).astype(int)
    em = ((random.random(n) < 0.7 - 0.05 * level) & (same > 0)).astype(float)
    share = np.clip((12 - depth.mean()) / 9, 0, 1)
    total = int(tokens.sum())
    counts = [int(total * share * part) for part in (0.5, 0.3, 0.2)]
    flop_saving = 1 - flops.sum() / full_flops.sum()
    return {
        "schema": 1,
        "id": f"{judge}-{seed}-{state}-{threshold}-{task}",
        "model": model,
        "judge": judge,
        "top_k": None if seed is None else 1,
        "seed": seed,
        "layers": list(LAYERS),
        "depth": DEPTH,
        "state": state,
        "threshold": threshold,
        "task": task,
        "n": n,
        "metrics": {"em": em.mean(), "f1": min(1.0, em.mean() + 0.05)},
        "full_metrics": {"em": 0.61, "f1": 0.66},
        "consistency": {
            "answers": same.mean(),
            "tokens": 1 - hard / 2,
            "agreed": 1 - hard / 2,
            "rouge_l": None,
            "teacher_forced": None,
        },
        "mean_exit_layer": depth.mean(),
        "layer_saving": 1 - depth.mean() / DEPTH,
        "flop_saving": flop_saving,
        "byte_saving": flop_saving * 0.9,
        "speedup": 1 / (1 - flop_saving * 0.8) if timed else None,
        "exit_layers": {
            **{str(layer): count for layer, count in zip(LAYERS, counts, strict=True)},
            str(DEPTH): total - sum(counts),
        },
        "replayed": 0.93,
        "questions": {
            "em": em.tolist(),
            "f1": em.tolist(),
            "same": same.tolist(),
            "flops": flops.tolist(),
            "full_flops": full_flops.tolist(),
            "bytes": (flops * 2).tolist(),
            "full_bytes": (full_flops * 2).tolist(),
            "tokens": tokens.tolist(),
            "mean_exit_layer": depth.tolist(),
            "level": level.tolist(),
            "kind": ["city"] * n,
        },
    }


def _reliability(
    random: np.random.Generator, judges: tuple[str, ...], tasks: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for judge in judges:
        for task in tasks:
            for number, layer in enumerate(LAYERS):
                scores = np.linspace(0.05, 0.95, 10)
                right = np.clip(scores + random.normal(0, 0.06, 10) + 0.05 * number, 0, 1)
                counts = random.integers(3, 60, 10)
                yield {
                    "judge": judge,
                    "top_k": 1,
                    "seed": 0,
                    "task": task,
                    "exit_layer": layer,
                    "bins": [list(b) for b in zip(scores, right, counts.tolist(), strict=True)],
                    "auroc": 0.8 + 0.04 * number,
                    "ece": float(np.average(abs(scores - right), weights=counts)),
                }


def _examples(
    random: np.random.Generator, judges: tuple[str, ...], tasks: tuple[str, ...], answer: str
) -> Iterator[dict[str, Any]]:
    pieces = [
        answer,
        " is",
        " the",
        " capital",
        " of",
        " France",
        ",",
        " on",
        " the",
        " Seine",
        ".",
    ]
    for judge in judges[-2:]:
        for task in tasks[:2]:
            tokens = [
                {
                    "text": piece,
                    "exit_layer": int(random.choice([*LAYERS, DEPTH])),
                    "score": round(float(random.uniform(0.8, 1)), 4),
                }
                for piece in pieces
            ]
            yield {
                "judge": judge,
                "state": "recompute",
                "threshold": 0.9,
                "task": task,
                "prompt": "Question: What is the capital of France?\nAnswer:",
                "full_text": "".join(pieces),
                "text": "".join(pieces),
                "tokens": tokens,
            }


def _certificate(backbone: Fingerprint) -> Certificate:
    return Certificate(
        risk_kind="answers",
        risk=0.05,
        confidence=0.95,
        threshold=0.9,
        thresholds=(0.9,) * len(LAYERS),
        empirical_risk=0.0125,
        p_value=0.004,
        n=320,
        data="0" * 16,
        judge="mamba",
        judge_digest="1" * 16,
        layers=LAYERS,
        state="recompute",
        backbone=backbone,
        dynexit="0.1.0",
        date="2025-01-31",
    )
