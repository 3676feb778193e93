"""Numbers of four bits, eight to a 32-bit word, in the order that vector instructions unpack them.

Columns are packed in runs of 128, the last filled up with zeros. A run is 16 little-endian words;
word j holds column ``16 k + j`` of the run in bits ``4 k`` to ``4 k + 3``: one shift and one mask
of 16 words at once give 16 neighbouring columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models.quantization import RUN, packed_runs

_WORDS, _BYTES = 16, 4  # words of a run, bytes of a word


def pack(numbers: Tensor) -> Tensor:
    """``numbers`` [rows, columns] uint8 from 0 to 15 -> [rows, 64 * runs] uint8."""
    rows, columns = numbers.shape
    runs = packed_runs(columns)
    filled = F.pad(numbers, (0, runs * RUN - columns))
    # column of a run = 32 byte + 16 half + word
    parts = filled.view(rows, runs, _BYTES, 2, _WORDS)
    packed = parts[:, :, :, 0] | (parts[:, :, :, 1] << 4)
    return packed.transpose(2, 3).reshape(rows, runs * RUN // 2)


def unpack(packed: Tensor, columns: int) -> Tensor:
    """The inverse of ``pack``: [rows, columns] uint8."""
    rows = packed.shape[0]
    words = packed.view(torch.int32).view(rows, -1, _WORDS)
    shape = (rows, words.shape[1], _BYTES, 2, _WORDS)
    numbers = torch.empty(shape, dtype=torch.uint8, device=packed.device)
    for byte in range(_BYTES):  # a few long passes instead of one that jumps from byte to byte
        both = (words >> (8 * byte)).to(torch.uint8)
        torch.bitwise_and(both, 15, out=numbers[:, :, byte, 0])
        torch.bitwise_right_shift(both, 4, out=numbers[:, :, byte, 1])
    return numbers.view(rows, -1)[:, :columns]
