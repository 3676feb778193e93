"""``python -m faults --kills 50 --json FILE``: kill every long operation, compare, tell.

Run from the repository with ``PYTHONPATH=src:tests``, or by ``make faults KILLS=50``. Exit code 1
if a resumed result differed from an undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from faults.kills import Kills, kill_and_resume, undisturbed
from faults.operations import make_inputs, operations


def main() -> int:
    """Kill; the file is written anew after each operation."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each operation")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=None, help="as drawn by the system by default")
    parser.add_argument("--operations", default=None, metavar="NAME,..")
    wanted = parser.parse_args()
    seed = int.from_bytes(os.urandom(4)) if wanted.seed is None else wanted.seed
    rows: list[Kills] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        make_inputs(place / "inputs")
        every = operations(place / "inputs")
        names = list(every) if wanted.operations is None else wanted.operations.split(",")
        for name in names:
            expected = undisturbed(every[name], place / name)
            rows.append(kill_and_resume(every[name], expected, place / name, wanted.kills, seed))
            print(json.dumps(asdict(rows[-1])), flush=True)
            if wanted.json is not None:
                _write(wanted.json, seed, rows)
    return 1 if any(row.differences for row in rows) else 0


def _write(path: Path, seed: int, rows: list[Kills]) -> None:
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "seed": seed,
        "kills": sum(row.kills for row in rows),
        "differences": sum(len(row.differences) for row in rows),
        "operations": [asdict(row) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
