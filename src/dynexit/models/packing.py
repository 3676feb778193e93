"""Numbers of four bits, eight to a 32-bit word, in the order that vector instructions unpack them.

Columns are packed in runs of 128, the last filled up with zeros. A run is 16 little-endian words;
bits ``4 k`` to ``4 k + 3`` of word j hold column ``32 k + 2 j`` of the run for k < 4, and beyond
column ``32 (k - 4) + 2 j + 1``. So a shift and a mask give 32 neighbouring columns as pairs, the
even ones in the lower halves of the words and the odd ones in the upper: processors multiply such
pairs of bf16 at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models.quantization import RUN, packed_runs

_BLOCKS, _WORDS = 4, 16  # blocks of 32 columns and words in a run


def pack(numbers: Tensor) -> Tensor:
    """``numbers`` [rows, columns] uint8 from 0 to 15 -> [rows, 64 * runs] uint8."""
    rows, columns = numbers.shape
    runs = packed_runs(columns)
    filled = F.pad(numbers, (0, runs * RUN - columns))
    # column of a run = 32 block + 2 word + odd, and place in a word = 4 odd + block
    places = filled.view(rows, runs, _BLOCKS, _WORDS, 2).permute(0, 1, 3, 4, 2).flatten(3)
    return (places[..., 0::2] | (places[..., 1::2] << 4)).reshape(rows, runs * RUN // 2)


def unpack(packed: Tensor, columns: int) -> Tensor:
    """The inverse of ``pack``: [rows, columns] uint8."""
    rows = packed.shape[0]
    words = packed.view(torch.int32).view(rows, -1, _WORDS)
    shape = (rows, words.shape[1], _BLOCKS, _WORDS, 2)
    numbers = torch.empty(shape, dtype=torch.uint8, device=packed.device)
    for place in range(2 * _BLOCKS):  # long passes instead of one that jumps from byte to byte
        odd, block = divmod(place, _BLOCKS)
        shifted = (words >> (4 * place)).to(torch.uint8)
        numbers[:, :, block, :, odd] = shifted.bitwise_and_(15)
    return numbers.view(rows, -1)[:, :columns]
