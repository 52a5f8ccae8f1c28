"""Read the header of a safetensors file, which says where in the file each tensor lies.

Follows the format of https://github.com/huggingface/safetensors and its reference reader, 0.8: an
unsigned 64-bit little-endian length, that many bytes of JSON, then the tensors' bytes. Promises for
a header that is accepted: each tensor has as many bytes as its type and shape need, and together
they cover the rest of the file exactly once, in the order of their offsets. So nothing hides
between tensors, and no two readers see different weights. Stricter than the reference: JSON has one
meaning (`strict_json`), stands on one line, and has no keys but the format's. A large header is
read in parts, so that memory holds its tensors and never its text. Left out: reading the file
(`files/tensors.py`), the weights themselves, and archives that other programs find from the end of
a file.
"""

import re
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from aicert.errors import EvidenceError
from aicert.formats.fields import MAX_INT
from aicert.formats.strict_json import Fields, loads
from aicert.frozen import dataclass

SUFFIX = ".safetensors"
# The limit of the reference reader.
MAX_HEADER = 100_000_000
# Mixture-of-experts models save up to 18,867 tensors in one file; each costs some 350 bytes of
# memory.
MAX_TENSORS = 100_000
# A header beyond `PART` bytes is read in parts so small that a part full of tensors stays below
# strict_json's MAX_TOKENS. One entry, which may be metadata, is no larger than `_MAX_ENTRY`.
PART = 1 << 19
_MAX_ENTRY = 1 << 22
# The rank that torch allows. It also bounds how many numbers are multiplied.
MAX_RANK = 64
LENGTH = 8
_METADATA = "__metadata__"

# Bits of one element, by the format's name of the type.
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = rb"[ \t\r]*+"
# One entry of the header's object with its end: a name and an object without nested objects.
_ENTRY = re.compile(
    _SPACE + _STRING + _SPACE + b":" + _SPACE
    + rb"\{(?:[^{}\"]++|" + _STRING + rb")*+\}" + _SPACE + b"([,}])"
)  # fmt: skip
_NO_ENTRY = re.compile(_SPACE + rb"\}")


class BeyondLimits(EvidenceError):  # noqa: N818 - says what it is
    """A header that may be sound, but holds more than this reader reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What one file holds: the number of its tensors, and that of all their elements together."""

    tensors: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Tensor:
    """One tensor; `begin` and `end` of its bytes are counted from the end of the header."""

    begin: int
    end: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int


def is_named(path: str) -> bool:
    """Return whether loaders, even those that ignore case, take this name for safetensors."""
    return path.lower().endswith(SUFFIX)


def header_length(octets: bytes, size: int) -> int:
    """Return the length of the header, from the first LENGTH octets of a file of `size` bytes."""
    length = int.from_bytes(octets, "little")
    if size < LENGTH or length > size - LENGTH:
        raise EvidenceError("not safetensors: the header does not fit into the file")
    if length > MAX_HEADER:
        raise BeyondLimits(f"not safetensors: the header is larger than {MAX_HEADER} bytes")
    return length


def parse_header(data: bytes, size: int) -> Header:
    """Read the JSON of a header before `size` bytes of tensors; EvidenceError if it is unsound."""
    return header_of(
        parse_tensors((data[at : at + PART] for at in range(0, len(data), PART)), size)
    )


def header_of(tensors: tuple[Tensor, ...]) -> Header:
    """Return the totals of these tensors."""
    return Header(tensors=len(tensors), elements=sum(tensor.elements for tensor in tensors))


def parse_tensors(blocks: Iterator[bytes], size: int) -> tuple[Tensor, ...]:
    """Return the tensors of a header whose text comes in `blocks` of PART bytes.

    As strict as `parse_header`.
    """
    names: set[str] = set()
    tensors: list[Tensor] = []
    for part in _parts(blocks):
        value = loads(part, what="safetensors header", max_bytes=_MAX_ENTRY + PART)
        for name, entry in Fields(value, "safetensors header").rest().items():
            if name in names:
                raise EvidenceError(f"safetensors header: key {_shown(name)} is given twice")
            names.add(name)
            if name == _METADATA:
                _check_metadata(entry)
            else:
                tensors.append(_tensor(name, entry, size))
        if len(tensors) > MAX_TENSORS:
            raise BeyondLimits(f"the safetensors header has more than {MAX_TENSORS} tensors")
    tensors.sort(key=attrgetter("begin", "end", "name"))
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise EvidenceError(
                f"tensor {_shown(tensor.name)} begins at {tensor.begin}, the one before it ends "
                f"at {end}"
            )
        end = tensor.end
    if end != size:
        raise EvidenceError(f"the tensors end at {end} of {size} bytes")
    return tuple(tensors)


def _parts(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the header's object as objects that together hold its entries; one if it is short."""
    text = _checked(next(blocks, b""))
    if text[:1] != b"{":
        raise EvidenceError("not safetensors: the header is not a JSON object")
    block = next(blocks, None)
    if block is None:
        yield text
        return
    # `begin`: the start of the entries in `text` that were not yielded yet; `at`: the end of the
    # entries that were seen.
    begin = at = 1
    closed = _NO_ENTRY.match(text, at)
    while closed is None:
        entry = _ENTRY.match(text, at)
        if entry is None:
            text, begin, at = text[begin:], 0, at - begin
            if block is None or len(text) > _MAX_ENTRY:
                raise EvidenceError("the safetensors header is cut short, or holds no tensor where "
                                    "one should be")  # fmt: skip
            text, block = text + _checked(block), next(blocks, None)
            continue
        at = entry.end()
        closed = entry if entry[1] == b"}" else None
        if closed or at - begin >= PART:
            yield b"{" + text[begin : entry.start(1)] + b"}"
            begin = at
    for rest in chain((text[closed.end() :], block or b""), blocks):
        if _checked(rest).strip(b" \t\r"):
            raise EvidenceError("something follows the JSON object in the safetensors header")


def _checked(block: bytes) -> bytes:
    # Writers write one line. Several lines could hide a pickle: the length's first byte can be an
    # opcode whose text goes on to the line's end, and more opcodes can follow.
    if b"\n" in block:
        raise EvidenceError("the safetensors header has more than one line")
    return block


def _check_metadata(value: object) -> None:
    for key, text in Fields(value, _METADATA).rest().items():
        if type(text) is not str:
            raise EvidenceError(f"{_METADATA}.{_shown(key)} is not a string")


def _tensor(name: str, value: object, size: int) -> Tensor:
    where = f"tensor {_shown(name)}"
    fields = Fields(value, where)
    dtype = fields.text("dtype")
    bits = _BITS.get(dtype)
    if bits is None:
        raise EvidenceError(f"{where} has an unknown dtype")
    shape = fields.items("shape", _number, max_items=MAX_RANK)
    offsets = fields.items("data_offsets", _number, max_items=2)
    fields.done()
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise EvidenceError(f"{where} lies outside the file's {size} bytes")
    elements = _product(shape)
    if elements * bits != 8 * (offsets[1] - offsets[0]):
        raise EvidenceError(f"{where} does not have the bytes that its dtype and shape need")
    begin, end = offsets
    return Tensor(begin=begin, end=end, name=name, dtype=dtype, shape=shape, elements=elements)


def _product(shape: tuple[int, ...]) -> int:
    """Return the number of elements; the caller treats all numbers above MAX_INT alike."""
    product = 1
    for dimension in shape:
        product *= dimension
        if product > MAX_INT:
            # The reference refuses this too, even if a zero follows.
            return MAX_INT
    return product


def _number(value: object, where: str) -> int:
    if type(value) is not int or value < 0:
        raise EvidenceError(f"{where} is not a size")
    return value


def _shown(name: str) -> str:
    return ascii(name[:80])
