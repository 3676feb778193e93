"""The workers of a job: the processes that ``torchrun`` started together, or this one alone.

They work on one directory that all of them see, and say to each other only numbers and JSON.
Nothing here depends on which of them is which, so that a job of any number of workers has the same
result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

_PATIENCE = timedelta(days=7)  # one may fit for long while the others wait; torchrun ends the dead

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process is number ``rank`` (from 0) of ``count``; ``local`` is its number on this
    machine, by which it takes a GPU."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes what there is one of, and talks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those of the items that are this worker's: every ``count``-th."""
        return items[self.rank :: self.count]

    def wait(self) -> None:
        """Go on when all have come here, and what each wrote before is there for all."""
        if self.count > 1:
            self.total(torch.zeros(1))  # a barrier of gloo's own would not wait so long

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of all workers' ``numbers``; for counts, as fractions have an order."""
        if self.count > 1:
            dist.all_reduce(numbers)
        return numbers

    def each(self, numbers: Tensor) -> list[Tensor]:
        """The ``numbers``, of one shape for all, of every worker in order."""
        if self.count == 1:
            return [numbers]
        found = [torch.empty_like(numbers) for _ in range(self.count)]
        dist.all_gather(found, numbers.contiguous())
        return found

    def joined(self, numbers: Tensor) -> Tensor:
        """The numbers [n] of all workers one after another; each may have another n."""
        if self.count == 1:
            return numbers
        lengths = torch.cat(self.each(torch.tensor([len(numbers)]))).tolist()
        padded = numbers.new_zeros(max(lengths))
        padded[: len(numbers)] = numbers
        return torch.cat([n[:k] for n, k in zip(self.each(padded), lengths, strict=True)])

    def all_rows(self, rows: Sequence[Any]) -> list[Any]:
        """The rows, which JSON can hold, of all workers one after another."""
        raw = bytearray(json.dumps(rows) + "\n", "ascii")
        lines = bytes(self.joined(torch.frombuffer(raw, dtype=torch.uint8)).tolist()).splitlines()
        return [row for line in lines for row in json.loads(line)]

    def mesh(self, device: torch.device) -> DeviceMesh:
        """All workers in a row, for parts of a model on devices of that type."""
        return init_device_mesh(device.type, (self.count,))


ALONE = Workers()


@contextmanager
def joined_workers() -> Iterator[Workers]:
    """The workers of this job, by what ``torchrun`` tells in the environment."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    # each tensor goes by the way of its device
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Workers(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
