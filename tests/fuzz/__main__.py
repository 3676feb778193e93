"""``python -m fuzz --minutes 60 --json FILE``: fuzz every parser in turn and tell what came of it.

Run from the repository with ``PYTHONPATH=src:tests``, or by ``make fuzz MINUTES=60``. Exit code 1
if anything crashed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from fuzz.campaign import MAKERS, Tally, fuzz

SLICE = 30.0  # seconds of a target before the next has its turn


def main() -> int:
    """Fuzz until the time is up; the file is written anew after each slice."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=None, help="as drawn by the system by default")
    parser.add_argument("--targets", default=",".join(MAKERS), metavar="NAME,..")
    wanted = parser.parse_args()
    names = wanted.targets.split(",")
    number = int.from_bytes(os.urandom(6)) if wanted.seed is None else wanted.seed
    end, totals = time.monotonic() + 60 * wanted.minutes, {name: Tally(name) for name in names}
    piece = min(SLICE, 60 * wanted.minutes / len(names))
    while time.monotonic() < end:
        for name in names:
            if time.monotonic() >= end:
                break
            _add(totals[name], fuzz(name, number, piece))
            number += 1_000_003
            _tell(totals[name])
            if wanted.json is not None:
                _write(wanted.json, totals)
    return 1 if any(tally.crashes for tally in totals.values()) else 0


def _add(total: Tally, more: Tally) -> None:
    total.seconds += more.seconds
    total.accepted += more.accepted
    total.refused += more.refused
    total.crashes |= more.crashes


def _tell(tally: Tally) -> None:
    print(
        f"{tally.target:18} {tally.seconds:7.0f} s {tally.accepted:8} accepted "
        f"{tally.refused:8} refused {len(tally.crashes):4} crashes",
        flush=True,
    )
    for where, kept in tally.crashes.items():
        print(f"    {where}  ({kept})", flush=True)


def _write(path: Path, totals: dict[str, Tally]) -> None:
    used = [tally for tally in totals.values() if tally.seconds]
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "minutes": sum(tally.seconds for tally in used) / 60,
        "inputs": sum(tally.inputs for tally in used),
        "refused": sum(tally.refused for tally in used),
        "crashes": sum(len(tally.crashes) for tally in used),
        "targets": [asdict(tally) for tally in used],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
