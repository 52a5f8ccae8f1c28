"""Say how a GGUF file stores numbers of a model, and compare them.

Every type here has one right result for each number: F32, F16 and BF16 round to the nearest, halves
to the even one; Q8_0 divides 32 numbers by a 127th of the largest and rounds halves away from zero
(`quantize_row_q8_0_ref` in `ggml-quants.c`). ggml computes Q8_0 in F32; the same quotients and
products in F64, rounded to F32, are the same numbers.
"""

import math
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aicert.formats import gguf, safetensors
from aicert.formats.gguf import BLOCKS
from enclave_runner.mergekit.stored import Stored, rounded

Q8_0 = "Q8_0"
_BLOCK, _OCTETS = BLOCKS[Q8_0]
# The last byte of an F16 that is infinite or no number at all: the scale of a block of Q8_0.
_NO_SCALE = re.compile(rb"[\x7c-\x7f\xfc-\xff]")
_READ = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A tensor of the model and the one of the file that was made from it.

    `heads`: how many heads it has whose rows the file has by turns; None if the order is the same.
    """

    source: Stored
    fd: int
    target: gguf.Tensor
    heads: int | None

    @property
    def plain(self) -> Stored:
        """The file's tensor, of a type that safetensors has too."""
        target = self.target
        own = safetensors.Tensor(
            begin=target.begin,
            end=target.end,
            name=target.name,
            dtype=target.type,
            shape=target.shape[::-1],
            elements=target.elements,
        )
        return Stored(tensor=own, fd=self.fd, begin=target.begin)

    @property
    def is_finite(self) -> bool:
        """Whether every number of the file is finite, and no larger than a weight can be."""
        if self.target.type != Q8_0:
            return self.plain.is_finite()
        size = _READ // _OCTETS * _OCTETS
        return not any(_NO_SCALE.search(block[1::_OCTETS]) for _, block in self._octets(size))

    def origins(self, positions: Iterable[int]) -> list[int]:
        """Return where in the model's tensor the file's numbers at these positions come from."""
        if self.heads is None:
            return list(positions)
        rows, width = self.source.tensor.shape
        half = rows // self.heads // 2
        origins = []
        for position in positions:
            row, column = divmod(position, width)
            head, within = divmod(row, 2 * half)
            pair, which = divmod(within, 2)
            origins.append((head * 2 * half + which * half + pair) * width + column)
        return origins

    def first_wrong(self, positions: Iterable[int]) -> int | None:
        """Return the first of these positions at which the file has another number than it must.

        For Q8_0 a position stands for the block in which it lies.
        """
        for position in positions:
            if self.target.type == Q8_0:
                first = position // _BLOCK * _BLOCK
                numbers = self.source.numbers(self.origins(range(first, first + _BLOCK)))
                at = self.target.begin + first // _BLOCK * _OCTETS
                is_right = os.pread(self.fd, _OCTETS, at) == q8_0(numbers)
            else:
                (number,) = self.source.numbers(self.origins((position,)))
                (written,) = self.plain.numbers((position,))
                is_right = rounded(number, self.target.type) == written
            if not is_right:
                return position
        return None

    def is_copied(self) -> bool:
        """Return whether all bytes are the model's, in the file's order of rows; for one type."""
        tensor, begin = self.source.tensor, self.source.begin
        if self.heads is None:
            return all(
                block == os.pread(self.source.fd, len(block), begin + at)
                for at, block in self._octets(_READ)
            )
        rows, width = tensor.shape
        size = (tensor.end - tensor.begin) // rows
        return all(
            os.pread(self.fd, size, self.target.begin + row * size)
            == os.pread(self.source.fd, size, begin + origin // width * size)
            for row, origin in enumerate(self.origins(range(0, tensor.elements, width)))
        )

    def _octets(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield the file's bytes of the tensor in blocks, with the offset of each."""
        length = self.target.end - self.target.begin
        for at in range(0, length, size):
            yield at, os.pread(self.fd, min(size, length - at), self.target.begin + at)


def q8_0(numbers: list[float]) -> bytes | None:
    """Return a block of Q8_0; None for numbers so small that the type has no result for them."""
    scale = rounded(max(map(abs, numbers)) / 127, "F32")
    inverse = rounded(1 / scale, "F32") if scale else 0.0
    if not math.isfinite(inverse):
        return None
    whole = [_away_from_zero(rounded(number * inverse, "F32")) for number in numbers]
    return struct.pack(f"<e{_BLOCK}b", rounded(scale, "F16"), *whole)


def _away_from_zero(number: float) -> int:
    size = abs(number)
    return int(math.copysign(math.floor(size) + math.floor(2 * (size - math.floor(size))), number))
