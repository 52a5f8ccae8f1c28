"""Read numbers of tensors where they lie in safetensors files."""

import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import EvidenceError, LockError
from aicert.files.tensors import read_tensors
from aicert.formats.safetensors import Tensor

# Type → bytes of one number, and the distance from 1 to the next number.
WIDTHS: Mapping[str, int] = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
EPSILONS: Mapping[str, float] = {"BF16": 2**-7, "F16": 2**-10, "F32": 2**-23, "F64": 2**-52}
# The smallest numbers that are stored with all their digits; below, digits are lost.
SMALLEST: Mapping[str, float] = {
    "BF16": 2.0**-126,
    "F16": 2.0**-14,
    "F32": 2.0**-126,
    "F64": 2.0**-1022,
}
# The last byte of a number is its sign and the upper bits of its exponent. With these values a
# number is infinite or none at all, or (but for F16) larger than any weight: from 2^127, for F64
# from 2^1009.
_NO_WEIGHT = {
    "F16": re.compile(rb"[\x7c-\x7f\xfc-\xff]"),
    **dict.fromkeys(("BF16", "F32", "F64"), re.compile(rb"[\x7f\xff]")),
}
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A tensor in an open file; `begin` is the offset of its first byte."""

    tensor: Tensor
    fd: int
    begin: int

    def numbers(self, positions: Iterable[int]) -> list[float]:
        """Return the numbers at these positions, counted from 0."""
        dtype = self.tensor.dtype
        width = WIDTHS[dtype]
        return [
            _number(dtype, os.pread(self.fd, width, self.begin + at * width)) for at in positions
        ]

    def is_finite(self) -> bool:
        """Return whether every number is finite, and no larger than a weight can be."""
        width, pattern = WIDTHS[self.tensor.dtype], _NO_WEIGHT[self.tensor.dtype]
        end = self.begin + self.tensor.end - self.tensor.begin
        for at in range(self.begin, end, _BLOCK):
            block = os.pread(self.fd, min(_BLOCK, end - at), at)
            if pattern.search(block[width - 1 :: width]):
                return False
        return True


def _number(dtype: str, data: bytes) -> float:
    if dtype == "BF16":
        # The upper half of an F32.
        dtype, data = "F32", b"\0\0" + data
    form = {"F16": "<e", "F32": "<f", "F64": "<d"}[dtype]
    (number,) = struct.unpack(form, data)
    return float(number)


def rounded(number: float, dtype: str) -> float:
    """Return the number as this type stores it; an infinite one if it is too large for that."""
    try:
        if dtype != "BF16":
            form = {"F16": "<e", "F32": "<f", "F64": "<d"}[dtype]
            return float(*struct.unpack(form, struct.pack(form, number)))
        (bits,) = struct.unpack("<I", struct.pack("<f", number))
    except OverflowError:
        return math.copysign(math.inf, number)
    # To the nearest, and halves to the even one.
    bits += 0x7FFF + (bits >> 16 & 1)
    return float(*struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000)))


@contextmanager
def opened(files: Iterable[Path]) -> Iterator[Mapping[str, Stored]]:
    """Open these files, and return their tensors by name. LockError if a name occurs twice."""
    stored: dict[str, Stored] = {}
    with ExitStack() as stack:
        for path in files:
            fd = stack.enter_context(path.open("rb")).fileno()
            try:
                start, tensors = read_tensors(fd, os.fstat(fd).st_size)
            except EvidenceError as error:
                raise LockError(f"{path.name[:80]!a}: {error.message}") from None
            for tensor in tensors:
                if tensor.name in stored:
                    raise LockError(f"two files of a model have a tensor {tensor.name[:80]!a}")
                stored[tensor.name] = Stored(tensor=tensor, fd=fd, begin=start + tensor.begin)
        yield stored
