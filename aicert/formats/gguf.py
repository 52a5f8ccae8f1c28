"""Read the header of a GGUF file, in which llama.cpp keeps a model with its tokenizer.

Follows version 3 of the format, little-endian, as described in the documents of ggml ("GGUF") and
read by its `gguf.cpp`: a magic, the numbers of tensors and keys, the keys with their values, names,
shapes, types and offsets of the tensors, then their numbers. Promises for a header that is
accepted: no key and no tensor is given twice, every text is UTF-8, and the tensors lie in the
order of their entries, each at the next multiple of ALIGNMENT, up to the file's end. So nothing
lies beside them but padding, which is shorter than ALIGNMENT each time, and whose bytes a caller
compares with zeros (`Gguf.paddings`). Stricter than llama.cpp: arrays hold no arrays, another
alignment is refused, and so is every type of numbers that is not in TYPES. Left out: reading the
file, and the numbers themselves.
"""

import struct
from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats.binary import Reader
from aicert.formats.fields import MAX_INT
from aicert.frozen import dataclass

SUFFIX = ".gguf"
# Tokens and merges of a vocabulary of 256,000 take some 10 MB.
MAX_HEADER = 1 << 25
MAX_KEYS = 1024
MAX_TENSORS = 100_000
# Values of all arrays, and bytes of a text: far more than a vocabulary has, and than a template.
MAX_ITEMS = 1 << 21
MAX_TEXT = 1 << 22
# ggml's limits for a tensor: GGML_MAX_NAME with the zero byte at its end, GGML_MAX_DIMS.
_MAX_NAME = 63
_MAX_RANK = 4
_MAX_KEY = 256
ALIGNMENT = 32
_ALIGNMENT_KEY = "general.alignment"
_WHAT = "GGUF header"

# ggml's number of a type → its name; how many numbers a block of it has, and how many bytes.
TYPES: Mapping[int, str] = {0: "F32", 1: "F16", 8: "Q8_0", 30: "BF16"}
BLOCKS: Mapping[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "Q8_0": (32, 34),
    "BF16": (1, 2),
}
STRING, BOOL, _ARRAY = "STRING", "BOOL", 9
# GGUF's number of a value's type → its name, and the form in which `struct` reads it.
_SCALARS: Mapping[int, tuple[str, str]] = {
    0: ("UINT8", "B"),
    1: ("INT8", "b"),
    2: ("UINT16", "H"),
    3: ("INT16", "h"),
    4: ("UINT32", "I"),
    5: ("INT32", "i"),
    6: ("FLOAT32", "f"),
    7: (BOOL, "B"),
    8: (STRING, ""),
    10: ("UINT64", "Q"),
    11: ("INT64", "q"),
    12: ("FLOAT64", "d"),
}

Scalar = int | float | bool | str
# Name, type, shape and offset of a tensor.
_Entry = tuple[str, str, tuple[int, ...], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a key says; `type` is GGUF's name, for an array that of its items in brackets."""

    type: str
    data: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor. `shape`: as ggml has it, the dimension whose numbers lie side by side first.

    `begin` and `end` of its bytes are counted from the file's start.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    elements: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    """A header: what its keys say, and its tensors in the order of the file.

    `paddings`: begin and end of each place in the file that belongs to no tensor.
    """

    values: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    paddings: tuple[tuple[int, int], ...]


def parse(head: bytes, size: int) -> Gguf:
    """Read the header of a file of `size` bytes that begins with `head`; EvidenceError if unsound.

    `head`: as much of the file as MAX_HEADER allows.
    """
    reader = Reader(head, _WHAT, limit=MAX_HEADER, order="little")
    if reader.take(4) != b"GGUF":
        raise EvidenceError("not GGUF: the file begins with something else")
    version = reader.u32()
    if version != 3:
        raise EvidenceError(f"the file has GGUF version {version}, not 3")
    count = _count(reader, MAX_TENSORS, "tensors")
    values: dict[str, Value] = {}
    left = MAX_ITEMS
    for _ in range(_count(reader, MAX_KEYS, "keys")):
        key = _name(reader, _MAX_KEY, "key")
        if key in values:
            raise EvidenceError(f"{_WHAT}: key {key!a} is given twice")
        values[key] = value = _value(reader, key, left)
        left -= len(value.data) if isinstance(value.data, tuple) else 0
    alignment = values.get(_ALIGNMENT_KEY)
    if alignment not in (None, Value(type="UINT32", data=ALIGNMENT)):
        raise EvidenceError(f"{_WHAT}: {_ALIGNMENT_KEY} is not {ALIGNMENT}")
    entries = [_entry(reader) for _ in range(count)]
    tensors = _placed(entries, reader.offset, size)
    ends = (reader.offset, *(tensor.end for tensor in tensors))
    paddings = tuple((end, _aligned(end)) for end in ends if end % ALIGNMENT)
    return Gguf(values=values, tensors=tensors, paddings=paddings)


def _placed(entries: list[_Entry], at: int, size: int) -> tuple[Tensor, ...]:
    """Return the tensors of these entries, in a file of `size` bytes whose entries end at `at`."""
    start = _aligned(at)
    names: set[str] = set()
    tensors: list[Tensor] = []
    begin = start
    for name, kind, shape, offset in entries:
        if name in names:
            raise EvidenceError(f"{_WHAT}: tensor {name!a} is given twice")
        names.add(name)
        if start + offset != begin:
            raise EvidenceError(f"tensor {name!a} is at {offset}, not at {begin - start}")
        numbers, octets = BLOCKS[kind]
        elements = _product(name, shape)
        if shape[0] % numbers:
            raise EvidenceError(f"tensor {name!a} has rows that are no multiple of {numbers}")
        end = begin + elements // numbers * octets
        tensors.append(
            Tensor(name=name, type=kind, shape=shape, elements=elements, begin=begin, end=end)
        )
        begin = _aligned(end)
    if begin != size:
        raise EvidenceError(f"the tensors end at {begin}, but the file has {size} bytes")
    return tuple(tensors)


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def _product(name: str, shape: tuple[int, ...]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension
    if not 0 < product <= MAX_INT:
        raise EvidenceError(f"tensor {name!a} has {product} numbers")
    return product


def _entry(reader: Reader) -> _Entry:
    """Read name, type, shape and offset of one tensor."""
    name = _name(reader, _MAX_NAME, "tensor")
    rank = reader.u32()
    if not 1 <= rank <= _MAX_RANK:
        raise EvidenceError(f"tensor {name!a} has {rank} dimensions")
    shape = tuple(reader.u64() for _ in range(rank))
    number = reader.u32()
    kind = TYPES.get(number)
    if kind is None:
        raise EvidenceError(f"tensor {name!a} has an unknown type, number {number}")
    return name, kind, shape, reader.u64()


def _value(reader: Reader, key: str, most: int) -> Value:
    number = reader.u32()
    if number != _ARRAY:
        name, (item,) = _items(reader, key, number, 1)
        return Value(type=name, data=item)
    inner = reader.u32()
    name, items = _items(reader, key, inner, _count(reader, most, f"items of {key!a}"))
    return Value(type=f"[{name}]", data=items)


def _items(reader: Reader, key: str, number: int, count: int) -> tuple[str, tuple[Scalar, ...]]:
    """Read `count` values of one type; return them with the type's name."""
    if number not in _SCALARS:
        raise EvidenceError(f"{_WHAT}: {key!a} has values of an unknown type, number {number}")
    name, form = _SCALARS[number]
    if name == STRING:
        return name, tuple(_text(reader, MAX_TEXT, key) for _ in range(count))
    octets = reader.take(count * struct.calcsize(f"<{form}"))
    items = struct.unpack(f"<{count}{form}", octets)
    if name == BOOL:
        if not set(items) <= {0, 1}:
            raise EvidenceError(f"{_WHAT}: {key!a} is neither true nor false")
        items = tuple(map(bool, items))
    return name, items


def _name(reader: Reader, limit: int, what: str) -> str:
    """Read a name: printable ASCII, so that no two look alike."""
    name = _text(reader, limit, what)
    if not (name and name.isascii() and name.isprintable()):
        raise EvidenceError(f"{_WHAT}: {name!a} is no name of a {what}")
    return name


def _text(reader: Reader, limit: int, what: str) -> str:
    length = reader.u64()
    if length > limit:
        raise EvidenceError(f"{_WHAT}: a text of {what!a} has {length} bytes, more than {limit}")
    try:
        return reader.take(length).decode()
    except UnicodeDecodeError:
        raise EvidenceError(f"{_WHAT}: a text of {what!a} is not UTF-8") from None


def _count(reader: Reader, limit: int, what: str) -> int:
    count = reader.u64()
    if count > limit:
        raise EvidenceError(f"{_WHAT}: {count} {what}, more than {limit}")
    return count
