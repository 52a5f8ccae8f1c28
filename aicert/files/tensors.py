"""Find the tensors in an open safetensors file; its header is read in bounded parts.

`formats/safetensors.py` says what a header is and what is refused.
"""

import os

from aicert.formats.safetensors import (
    LENGTH,
    PART,
    Header,
    Tensor,
    header_length,
    header_of,
    is_named,
    parse_tensors,
)


def read_header(fd: int, size: int) -> Header:
    """Return the header of the open file `fd` of `size` bytes; EvidenceError if it has none."""
    return header_of(read_tensors(fd, size)[1])


def read_tensors(fd: int, size: int) -> tuple[int, tuple[Tensor, ...]]:
    """Return the offset of the tensors' bytes in the open file `fd` of `size` bytes, and the
    tensors.
    """
    start = LENGTH + header_length(os.pread(fd, LENGTH, 0), size)
    blocks = (os.pread(fd, min(PART, start - at), at) for at in range(LENGTH, start, PART))
    return start, parse_tensors(blocks, size - start)


def check_named(path: str, fd: int, size: int) -> None:
    """Refuse a file that is named safetensors but has no such header; other files are not read."""
    if is_named(path):
        read_header(fd, size)
