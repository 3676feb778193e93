"""What a worker and the runner say to each other: one JSON object a line.

A worker is started as ``python WORKER.py WEIGHTS THREADS``. It loads the weights and says
``{"ready": true, "version": ...}``. Each request ``{"tokens": N, "options": {...}}`` asks for N new
tokens after the same prompt, by greedy choice; the options say how. It is answered by the seconds
from the first of them to the last, the number of tokens between, the token ids and the bytes that
a token reads, or by ``{"error": ...}``.

Only the standard library is used here, as every system brings an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROMPT = tuple(range(5, 21))  # ids that every vocabulary has


@dataclass(frozen=True)
class Decoded:
    """``seconds`` for ``steps`` steps of one token each, and the ids of all new tokens; of drafts
    what the system tells of them: ``drafts``, ``accepted``, ``cycles``."""

    seconds: float
    steps: int
    ids: list[int]
    drafting: dict[str, Any] | None = None


@dataclass(frozen=True)
class Prepared:
    """A way of decoding: ``bytes`` of weights read for a token (None where tokens differ), and
    ``run`` from the number of new tokens."""

    bytes: int | None
    run: Callable[[int], Decoded]


@dataclass(frozen=True)
class Loaded:
    """A system with its weights: ``prepare`` gives the decoding that some options ask for."""

    version: str
    prepare: Callable[[Mapping[str, Any]], Prepared]


def serve(load: Callable[[Path, int], Loaded]) -> None:
    """Load what the command line names, then answer requests until standard input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply

    def say(reply: Mapping[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    loaded = load(Path(sys.argv[1]), int(sys.argv[2]))
    say({"ready": True, "version": loaded.version})
    prepared: dict[str, Prepared] = {}
    idle_from = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - idle_from
        request = json.loads(line)
        say(_answer(loaded, prepared, request) | {"idle_cpu_seconds": idle})
        idle_from = time.process_time()


def _answer(
    loaded: Loaded, prepared: dict[str, Prepared], request: Mapping[str, Any]
) -> dict[str, Any]:
    key = json.dumps(request["options"], sort_keys=True)
    try:
        if key not in prepared:
            prepared[key] = loaded.prepare(request["options"])
        asked = prepared[key]
        return asdict(asked.run(request["tokens"])) | {"bytes": asked.bytes}
    except Exception as error:  # a peer may fail in any way, and the others go on
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]}
