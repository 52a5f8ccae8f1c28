"""Headers of safetensors files: what valid ones contain, and where each limit lies."""

import json
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.files.tensors import check_named, read_header, read_tensors
from aicert.formats import safetensors
from aicert.formats.safetensors import Header, Tensor, parse_header


def read(data: bytes) -> Header:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_header(file.fileno(), len(data))


def entry(dtype: str, shape: list[Any], begin: Any, end: Any, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def parsed(tensors: Any, size: int) -> Header:
    return parse_header(json.dumps(tensors).encode(), size)


BITS = {
    4: ("F4",),
    6: ("F6_E2M3", "F6_E3M2"),
    8: ("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    16: ("I16", "U16", "F16", "BF16"),
    32: ("I32", "U32", "F32"),
    64: ("I64", "U64", "F64", "C64"),
}


@pytest.mark.parametrize(
    ("dtype", "bits"), [(name, bits) for bits, names in BITS.items() for name in names]
)
def test_each_dtype_has_its_size(dtype: str, bits: int) -> None:
    assert parsed({"a": entry(dtype, [4, 2], 0, bits)}, bits) == Header(tensors=1, elements=8)
    for wrong in (bits - 1, bits + 1):
        with pytest.raises(
            EvidenceError, match="'a' does not have the bytes that its dtype and shape need"
        ):
            parsed({"a": entry(dtype, [4, 2], 0, wrong)}, wrong)


def test_part_of_a_byte_is_no_tensor() -> None:
    with pytest.raises(EvidenceError, match="not have the bytes"):
        parsed({"a": entry("F4", [3], 0, 2)}, 2)


def test_order_in_the_file_is_that_of_the_offsets() -> None:
    tensors = {
        "z": entry("U8", [3], 0, 3),
        "__metadata__": {"a": "b"},
        "a": entry("U8", [2, 2], 3, 7),
        "scalar": entry("F32", [], 7, 11),
        "empty": entry("F32", [0, 5], 7, 7),
    }
    assert parsed(tensors, 11) == Header(tensors=4, elements=8)


def test_no_tensors_are_a_header_too() -> None:
    assert parsed({}, 0) == Header(tensors=0, elements=0)
    with pytest.raises(EvidenceError, match="the tensors end at 0 of 1 bytes"):
        parsed({}, 1)


def test_padding_with_spaces_is_read() -> None:
    assert parse_header(b"{}      ", 0) == Header(tensors=0, elements=0)


@pytest.mark.parametrize(
    ("data", "size", "reason"),
    [
        (b"", 0, "not safetensors: the header is not a JSON object"),
        (b" {}", 0, "not safetensors: the header is not a JSON object"),
        (b"[]", 0, "not safetensors: the header is not a JSON object"),
        (b"{\n}", 0, "the safetensors header has more than one line"),
        (b"{", 0, "safetensors header is not JSON: "),
        (b'{"a":1}', 0, "tensor 'a': expected an object, found 1"),
        (b'{"__metadata__":[]}', 0, "__metadata__: expected an object, found a list"),
        (b'{"__metadata__":{"\\u001b":1}}', 0, "__metadata__.'\\x1b' is not a string"),
    ],
)
def test_what_is_no_header(data: bytes, size: int, reason: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_header(data, size)
    assert caught.value.message.startswith(reason)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (entry("F31", [2], 0, 8), "tensor 'a' has an unknown dtype"),
        (entry("f32", [2], 0, 8), "tensor 'a' has an unknown dtype"),
        (entry("F32", [2], 0, 8, more=1), "tensor 'a' has an unknown key 'more'"),
        (entry("F32", [2], 0, 12), "tensor 'a' lies outside the file's 8 bytes"),
        (entry("F32", [2], 8, 0), "tensor 'a' lies outside the file's 8 bytes"),
        (entry("F32", [2], 0, 2**64), "safetensors header: number out of range: "),
        (entry("F32", [2.0], 0, 8), "tensor 'a'.shape[0] is not a size"),
        (entry("F32", [True, 2], 0, 8), "tensor 'a'.shape[0] is not a size"),
        (entry("F32", [-1], 0, 8), "tensor 'a'.shape[0] is not a size"),
        (entry("F32", [2], -8, 0), "tensor 'a'.data_offsets[0] is not a size"),
        (entry("F32", [2], "0", 8), "tensor 'a'.data_offsets[0] is not a size"),
        (entry("F32", [1] * 65, 0, 8), "tensor 'a'.shape has more than 64 items"),
        (
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]},
            "tensor 'a'.data_offsets has more than 2 items",
        ),
        (
            {"dtype": "F32", "shape": [2], "data_offsets": [0]},
            "tensor 'a' lies outside the file's 8 bytes",
        ),
        (entry("F32", [2**40, 2**40], 0, 8), "tensor 'a' does not have the bytes"),
        (entry("F32", [2**40, 2**40, 0], 0, 0), "tensor 'a' does not have the bytes"),
        ({"shape": [2], "data_offsets": [0, 8]}, "tensor 'a'.dtype is missing"),
    ],
)
def test_what_is_no_tensor(tensor: Any, reason: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parsed({"a": tensor}, 8)
    assert caught.value.message.startswith(reason)


def test_as_many_dimensions_and_elements_as_allowed() -> None:
    assert parsed({"a": entry("U8", [1] * 64, 0, 1)}, 1).elements == 1
    most = 2**63 - 1
    assert parsed({"a": entry("U8", [most], 0, most)}, most).elements == most


def test_tensors_must_touch() -> None:
    for begin, end in ((3, 7), (5, 9)):
        tensors = {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], begin, end)}
        with pytest.raises(EvidenceError) as caught:
            parsed(tensors, 9)
        message = f"tensor 'b' begins at {begin}, the one before it ends at 4"
        assert caught.value.message == message


def test_a_long_name_is_cut() -> None:
    with pytest.raises(EvidenceError) as caught:
        parsed({"\N{SNOWMAN}" + "x" * 500: 1}, 0)
    assert caught.value.message == ("tensor '\\u2603" + "x" * 79 + "': expected an object, found 1")


def test_the_length_is_judged_before_anything_is_read() -> None:
    assert read(b"\x02\0\0\0\0\0\0\0{}") == Header(tensors=0, elements=0)
    for data in (b"", b"\0" * 7, b"\x03\0\0\0\0\0\0\0{}", b"\x80\x04\x95\xff\xff\xff\xff\xff."):
        with pytest.raises(EvidenceError, match=r"^not safetensors: the header does not"):
            read(data)
    with pytest.raises(EvidenceError, match="the header is not a JSON object"):
        read(bytes(8))


def test_the_largest_header() -> None:
    for size, fits in ((safetensors.MAX_HEADER, True), (safetensors.MAX_HEADER + 1, False)):
        data = size.to_bytes(8, "little") + b"{}".ljust(size)
        if fits:
            assert read(data).tensors == 0
            continue
        with pytest.raises(EvidenceError, match="the header is larger than 100000000 bytes"):
            read(data)


def many(count: int, name: str = "model.layers.{}.mlp.experts.{}.gate_proj.weight") -> bytes:
    """Return the header of `count` tensors of one byte each."""
    form = '"%s":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    entries = (form % (name.format(at // 128, at), at, at + 1) for at in range(count))
    return ("{" + ",".join(entries) + "}").encode()


def test_a_mixture_of_experts_has_many_tensors() -> None:
    # In parts: metadata first, white space where JSON allows it, another order of the offsets.
    header = many(20_000).replace(b'"U8",', b'"U8" ,\t').replace(b"{", b'{"__metadata__":{}, ', 1)
    assert len(header) > 1 << 20
    assert parse_header(header + b" " * (1 << 20), 20_000) == Header(
        tensors=20_000, elements=20_000
    )
    entries = header[1:-1].split(b', "', 1)
    turned = b'{"' + entries[1] + b"," + entries[0] + b"}"
    assert parse_header(turned, 20_000).tensors == 20_000


def test_no_more_tensors_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert safetensors.MAX_TENSORS == 100_000
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 1000)
    assert parse_header(many(1000), 1000).tensors == 1000
    with pytest.raises(EvidenceError, match="has more than 1000 tensors"):
        parse_header(many(1001), 1001)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "is cut short, or holds no tensor"),
        (lambda data: data[:-1] + b",}", "is cut short, or holds no tensor"),
        (lambda data: data + b"}", "something follows the JSON object"),
        (lambda data: data + b" " * (1 << 20) + b"x", "something follows the JSON object"),
        (lambda data: data[:-1] + b"\n}", "has more than one line"),
        (lambda data: data[:-1] + b',"a":1}', "is cut short, or holds no tensor"),
        (lambda data: data[:-1] + b',"a":{"b":{}}}', "is cut short, or holds no tensor"),
        (lambda data: data[:-1] + b',"n0 0":{}}', "key 'n0 0' is given twice"),
        (lambda data: data[:-1] + b',"__metadata__":{"a":1}}', "__metadata__.'a' is not a string"),
        (lambda data: b"[" + data[1:], "the header is not a JSON object"),
        (lambda data: b"{ " + b" " * (5 << 20) + data[1:], "is cut short, or holds no tensor"),
        (lambda data: b"{}" + data, "something follows the JSON object"),
    ],
)
def test_what_is_no_long_header(change: Callable[[bytes], bytes], reason: str) -> None:
    data = many(12_000, "n{} {}")
    with pytest.raises(EvidenceError) as caught:
        parse_header(change(data), 12_000)
    assert reason in caught.value.message


def test_where_each_tensor_lies() -> None:
    header = json.dumps({"b": entry("U8", [3], 8, 11), "a": entry("F32", [1, 2], 0, 8)}).encode()
    with tempfile.TemporaryFile() as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(11))
        file.flush()
        start, (first, second) = read_tensors(file.fileno(), 8 + len(header) + 11)
    assert start == 8 + len(header)
    assert first == Tensor(begin=0, end=8, name="a", dtype="F32", shape=(1, 2), elements=2)
    assert second == Tensor(begin=8, end=11, name="b", dtype="U8", shape=(3,), elements=3)


def test_names() -> None:
    assert safetensors.is_named("a/model-00001-of-00002.safetensors")
    assert safetensors.is_named("MODEL.SAFETENSORS")
    assert not safetensors.is_named("model.safetensors.index.json")
    assert not safetensors.is_named("safetensors")


def test_only_files_of_that_name_are_looked_at() -> None:
    with tempfile.TemporaryFile() as file:
        check_named("config.json", file.fileno(), 0)
        with pytest.raises(EvidenceError, match="does not fit"):
            check_named("a.safetensors", file.fileno(), 0)
