"""Write GGUF files, sound ones and others."""

import struct
from collections.abc import Iterable, Sequence

# GGUF's number of a type → the form of one value; 8 is a text.
FORMS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
# ggml's numbers of types of tensors.
F32, F16, Q8_0, BF16 = 0, 1, 8, 30

Key = tuple[str, bytes]
# Name, shape (the dimension whose numbers lie side by side first), type, bytes.
Entry = tuple[str, Sequence[int], int, bytes]


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def scalar(kind: int, value: object) -> bytes:
    """Return a value without its type."""
    return text(str(value)) if kind == STRING else struct.pack("<" + FORMS[kind], value)


def key(name: str, kind: int, value: object) -> Key:
    return name, struct.pack("<I", kind) + scalar(kind, value)


def array(name: str, kind: int, values: Iterable[object]) -> Key:
    items = [scalar(kind, value) for value in values]
    return name, struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32)


def entry(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def head(keys: Sequence[Key], entries: Sequence[bytes], version: int = 3) -> bytes:
    counts = struct.pack("<IQQ", version, len(entries), len(keys))
    values = [text(name) + value for name, value in keys]
    return b"".join((b"GGUF", counts, *values, *entries))


def gguf(keys: Sequence[Key] = (), tensors: Sequence[Entry] = ()) -> bytes:
    """Return a whole file."""
    entries, data = [], b""
    for name, shape, kind, own in tensors:
        entries.append(entry(name, shape, kind, len(data)))
        data += aligned(own)
    return aligned(head(keys, entries)) + data
