"""Safetensors files with numbers in them."""

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.adversarial.attacks_disk import safetensors, tensor

# Type → the form of one number; BF16 is the upper half of an F32.
FORMS = {"BF16": "<f", "F16": "<e", "F32": "<f", "F64": "<d"}


def stored(number: float, dtype: str) -> bytes:
    data = struct.pack(FORMS[dtype], number)
    return data[2:] if dtype == "BF16" else data


def saved(header: dict[str, object], data: bytes) -> bytes:
    """Return a file with this header and these bytes of tensors."""
    return safetensors(header, 0) + data


def save(path: Path, dtype: str, **tensors: Sequence[float]) -> None:
    """Write tensors of one dimension."""
    header: dict[str, object] = {}
    data = b""
    for name, numbers in tensors.items():
        own = b"".join(stored(number, dtype) for number in numbers)
        header[name] = tensor(len(data), len(data) + len(own), (len(numbers),), dtype)
        data += own
    path.write_bytes(saved(header, data))
