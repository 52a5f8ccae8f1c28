"""Read the pieces of a SentencePiece model: texts, scores and types of its tokens.

The file is a message of protocol buffers (`sentencepiece_model.proto` of SentencePiece): field 1 of
`ModelProto` repeats `SentencePiece` (piece, score, type), and field 2 is a `TrainerSpec`, whose
field 3 is the kind of the model. All other fields are passed over.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aicert.errors import EvidenceError

MAX_PIECES = 1 << 21
# `TrainerSpec.ModelType`. llama.cpp merges by score, as only BPE does.
_UNIGRAM, BPE = 1, 2
# `SentencePiece.Type`. Its numbers are those of GGUF's `tokenizer.ggml.token_type`.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_WIDTHS = {_EIGHT: 8, _FOUR: 4}
# The fields that are read, each with the kind of its value. A field of that number and another kind
# is unknown to protocol buffers, and passed over.
_PIECE, _TRAINER = 1 << 3 | _BYTES, 2 << 3 | _BYTES
_TEXT, _SCORE, _TYPE = 1 << 3 | _BYTES, 2 << 3 | _FOUR, 3 << 3 | _VARINT
_MODEL_TYPE = 3 << 3 | _VARINT
_MAX_VARINT = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One token."""

    text: str
    score: float
    type: int


def read(data: bytes) -> tuple[Piece, ...]:
    """Return the pieces, by number. Raises EvidenceError, also for a model that is not BPE."""
    pieces: list[Piece] = []
    kind = _UNIGRAM
    for tag, _, octets in _fields(data):
        if tag == _PIECE:
            pieces.append(_piece(octets))
        elif tag == _TRAINER:
            # Of a field that is given twice, the last counts.
            kind = {tag: number for tag, number, _ in _fields(octets)}.get(_MODEL_TYPE, kind)
        if len(pieces) > MAX_PIECES:
            raise EvidenceError(f"a tokenizer of more than {MAX_PIECES} tokens")
    if not pieces:
        raise EvidenceError("a tokenizer without tokens")
    if kind != BPE:
        raise EvidenceError("a tokenizer that is not BPE, which llama.cpp would read as BPE")
    return tuple(pieces)


def _piece(data: bytes) -> Piece:
    fields = {tag: (number, octets) for tag, number, octets in _fields(data)}
    (score,) = struct.unpack("<f", fields.get(_SCORE, (0, bytes(4)))[1])
    kind = fields.get(_TYPE, (NORMAL, b""))[0]
    if kind not in range(NORMAL, BYTE + 1):
        raise EvidenceError(f"a token of an unknown type, number {kind}")
    try:
        text = fields.get(_TEXT, (0, b""))[1].decode()
    except UnicodeDecodeError:
        raise EvidenceError("a token that is not UTF-8") from None
    return Piece(text=text, score=score, type=kind)


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the fields of a message: the number of each with the kind of its value, and the value,
    which is a number or bytes.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag, value, b""
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise EvidenceError(f"a field of an unknown kind, {kind}")
        if length > len(data) - at:
            raise EvidenceError("a field that ends early")
        yield tag, 0, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, octet in enumerate(data[at : at + _MAX_VARINT]):
        value |= (octet & 0x7F) << (7 * index)
        if octet < 0x80:
            return value, at + index + 1
    raise EvidenceError("a number that ends early")
