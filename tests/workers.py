"""dynexit in one process or in several that ``torchrun`` starts."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def launch(workers: int, *program: str) -> list[str]:
    """A command: ``program`` (default: dynexit as a module), to which words may be added."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    start = several if workers > 1 else []
    return [sys.executable, *start, *(program or ("-m", "dynexit"))]
