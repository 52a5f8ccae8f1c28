"""Headers of GGUF files: what sound ones hold, and what is refused."""

import random
import struct

import pytest

from aicert.errors import AicertError, EvidenceError
from aicert.formats import gguf
from aicert.formats.gguf import Gguf, Tensor, Value
from tests.unit import gguf_files as files

FOUR: files.Entry = ("a", (4,), files.F32, bytes(16))


def read(data: bytes, size: int | None = None) -> Gguf:
    return gguf.parse(data, len(data) if size is None else size)


def refused(data: bytes, why: str, size: int | None = None) -> None:
    with pytest.raises(EvidenceError, match=why):
        read(data, size)


def test_values_of_every_type_are_read() -> None:
    data = files.gguf(
        [
            files.key("general.alignment", 4, 32),
            files.key("a.b", files.STRING, "a text ✓"),
            files.key("yes", 7, True),
            files.key("byte", 0, 255),
            files.key("small", 1, -1),
            files.key("short", 2, 65535),
            files.key("sshort", 3, -2),
            files.key("int", 5, -3),
            files.key("float", 6, 0.5),
            files.key("long", 10, 2**64 - 1),
            files.key("slong", 11, -4),
            files.key("double", 12, 0.1),
            files.array("texts", files.STRING, ("x", "")),
            files.array("numbers", 5, (1, -1)),
            files.array("none", 7, ()),
        ]
    )
    assert read(data).values == {
        "general.alignment": Value(type="UINT32", data=32),
        "a.b": Value(type="STRING", data="a text ✓"),
        "yes": Value(type="BOOL", data=True),
        "byte": Value(type="UINT8", data=255),
        "small": Value(type="INT8", data=-1),
        "short": Value(type="UINT16", data=65535),
        "sshort": Value(type="INT16", data=-2),
        "int": Value(type="INT32", data=-3),
        "float": Value(type="FLOAT32", data=0.5),
        "long": Value(type="UINT64", data=2**64 - 1),
        "slong": Value(type="INT64", data=-4),
        "double": Value(type="FLOAT64", data=0.1),
        "texts": Value(type="[STRING]", data=("x", "")),
        "numbers": Value(type="[INT32]", data=(1, -1)),
        "none": Value(type="[BOOL]", data=()),
    }


def test_tensors_lie_one_after_the_other() -> None:
    block = bytes(34)
    entries: list[files.Entry] = [
        FOUR,
        ("b.c", (32, 3), files.Q8_0, 3 * block),
        ("d", (2, 1), files.BF16, bytes(4)),
    ]
    data = files.gguf([], entries)
    read_back = read(data)
    own = [files.entry(name, shape, kind, 0) for name, shape, kind, _ in entries]
    start = len(files.aligned(files.head([], own)))
    assert read_back.tensors == (
        Tensor(name="a", type="F32", shape=(4,), elements=4, begin=start, end=start + 16),
        Tensor(
            name="b.c", type="Q8_0", shape=(32, 3), elements=96, begin=start + 32, end=start + 134
        ),
        Tensor(name="d", type="BF16", shape=(2, 1), elements=2, begin=start + 160, end=start + 164),
    )
    # Every byte belongs to the header, to a tensor, or to a padding.
    assert read_back.paddings[-3:] == (
        (start + 16, start + 32),
        (start + 134, start + 160),
        (start + 164, len(data)),
    )
    assert len(data) == start + 192


def test_a_file_without_tensors_is_its_header() -> None:
    assert read(files.gguf()) == Gguf(values={}, tensors=(), paddings=((24, 32),))
    refused(files.gguf() + bytes(32), "the tensors end at 32, but the file has 64 bytes")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GGML" + files.gguf()[4:], "begins with something else"),
        (b"", "ends early, at byte 0"),
        (files.head([], [], version=2), "GGUF version 2, not 3"),
        (b"GGUF\0\0\0\3" + bytes(16), "GGUF version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 10**6, 0), "1000000 tensors, more than 100000"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2000), "2000 keys, more than 1024"),
        (files.head([], [])[:-1], "ends early"),
        (files.gguf([files.key("a", 4, 1), files.key("a", 4, 1)]), "key 'a' is given twice"),
        (files.gguf([files.key("", 4, 1)]), "'' is no name of a key"),
        (files.gguf([files.key("é", 4, 1)]), "no name of a key"),
        (files.gguf([files.key("a\n", 4, 1)]), "no name of a key"),
        (files.gguf([files.key("a" * 257, 4, 1)]), "text of 'key' has 257 bytes"),
        (files.gguf([("a", struct.pack("<I", 13))]), "values of an unknown type, number 13"),
        (files.gguf([("a", struct.pack("<IB", 7, 2))]), "'a' is neither true nor false"),
        (files.gguf([("a", struct.pack("<I", 8) + files.text(b"\xff"))]), "'a' is not UTF-8"),
        (files.gguf([("a", struct.pack("<IQ", 8, 2**63))]), "has 9223372036854775808 bytes"),
        (files.gguf([("a", struct.pack("<IIQ", 9, 9, 0))]), "an unknown type, number 9"),
        (files.gguf([("a", struct.pack("<IIQ", 9, 12, 2**40))]), "items of 'a', more than"),
        (files.gguf([("a", struct.pack("<IIQ", 9, 12, 2**20))]), "ends early"),
        (
            files.gguf(
                [
                    ("a", struct.pack("<IIQ", 9, 0, 2**20) + bytes(2**20)),
                    ("b", struct.pack("<IIQ", 9, 0, 2**20 + 1)),
                ]
            ),
            "items of 'b', more than",
        ),
        (files.gguf([files.key("general.alignment", 4, 64)]), "general.alignment is not 32"),
        (files.gguf([files.key("general.alignment", 10, 32)]), "general.alignment is not 32"),
        (files.gguf([], [FOUR, FOUR]), "tensor 'a' is given twice"),
        (files.gguf([], [("a" * 64, (4,), 0, bytes(16))]), "text of 'tensor' has 64 bytes"),
        (files.gguf([], [("a", (), 0, b"")]), "'a' has 0 dimensions"),
        (files.gguf([], [("a", (1,) * 5, 0, b"")]), "'a' has 5 dimensions"),
        (files.gguf([], [("a", (0, 4), 0, b"")]), "'a' has 0 numbers"),
        (files.gguf([], [("a", (2**63, 4), 0, b"")]), "'a' has 36893488147419103232 numbers"),
        (files.gguf([], [("a", (4,), 2, bytes(18))]), "an unknown type, number 2"),
        (files.gguf([], [("a", (16, 2), 8, bytes(34))]), "rows that are no multiple of 32"),
        (files.gguf([], [("a", (4,), 0, bytes(64))]), "the tensors end at"),
        (files.gguf([], [("a", (40,), 0, bytes(16))]), "the tensors end at"),
    ],
)
def test_others_are_refused(data: bytes, why: str) -> None:
    refused(data, why)


def test_gaps_and_overlaps_are_refused() -> None:
    for offsets in ((0, 0), (0, 64), (32, 0), (0, 16)):
        entries = [files.entry(n, (4,), 0, at) for n, at in zip("ab", offsets, strict=True)]
        refused(files.aligned(files.head([], entries)) + bytes(64), r"tensor '\w' is at \d+, not")


def test_a_header_may_be_all_that_is_read_of_a_file() -> None:
    data = files.gguf([], [FOUR])
    assert read(data[: len(data) - 32], len(data)) == read(data)


def test_a_damaged_file_is_read_or_refused() -> None:
    data = files.gguf(
        [files.array("t", files.STRING, ("a", "bc")), files.key("k", 6, 1.5)],
        [FOUR, ("b", (32, 2), files.Q8_0, bytes(68))],
    )
    draw = random.Random(7)  # noqa: S311  # not for a secret
    for _ in range(2000):
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            parsed = read(bytes(changed[: draw.choice((len(data), draw.randrange(len(data))))]))
        except AicertError:
            continue
        assert all(0 < tensor.begin < tensor.end <= len(data) for tensor in parsed.tensors)
