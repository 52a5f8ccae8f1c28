"""Which tensors of an output equal those of an input, by their bytes alone."""

from pathlib import Path
from typing import Any

import pytest

from enclave_runner.axolotl.tensors import ByName, Counts, by_name, compare
from tests.adversarial.attacks_disk import safetensors

LONG = bytes(range(256)) * 5000


def weights(*tensors: tuple[str, str, bytes], **metadata: Any) -> bytes:
    """Return a file of tensors (name, a one-byte type, bytes)."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, dtype, data in tensors:
        header[name] = {"dtype": dtype, "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    return safetensors(header, 0) + b"".join(data for _, _, data in tensors)


BASE = weights(("a", "U8", LONG), ("b", "U8", b"b"), ("empty", "U8", b""))


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (BASE, (3, 0, 0)),
        (weights(("b", "U8", b"b"), ("a", "U8", LONG), note="trained"), (2, 0, 0)),
        (weights(("renamed", "U8", LONG)), (1, 0, 0)),
        (weights(("a", "U8", LONG[:-1] + b"x"), ("b", "U8", b"b")), (1, 1, 0)),
        (weights(("a", "U8", b"x" + LONG[1:])), (0, 1, 0)),
        (weights(("a", "I8", LONG)), (0, 1, 0)),
        (weights(("a", "U8", LONG[:-1])), (0, 1, 0)),
        (weights(("a.lora_A", "U8", b"1"), ("a.lora_B", "U8", b"2")), (0, 0, 2)),
        (weights(), (0, 0, 0)),
    ],
)
def test_tensors_are_compared_by_their_bytes(
    tmp_path: Path, output: bytes, counts: tuple[int, int, int]
) -> None:
    files = {"rows.jsonl": b"{}\n", "base.dat": BASE, "empty": b"", "out.safetensors": output}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    *inputs, out = [(tmp_path / name, len(data)) for name, data in files.items()]
    unchanged, changed, new = counts
    assert compare(inputs, [out]) == Counts(unchanged=unchanged, changed=changed, new=new)


def test_an_output_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(BASE)
    (tmp_path / "out.safetensors").write_bytes(b"no header")
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    files = [(tmp_path / name, sizes[name]) for name in ("base", "out.safetensors")]
    assert compare(files[:1], files) == Counts(
        unchanged=3,
        changed=0,
        new=0,
        unread=("out.safetensors: not safetensors: the header does not fit into the file",),
    )


def test_every_input_counts(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(weights(("a", "U8", LONG[:-1] + b"x")))
    (tmp_path / "base").write_bytes(BASE)
    (tmp_path / "out").write_bytes(weights(("a", "U8", LONG)))
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    inputs = [(tmp_path / name, sizes[name]) for name in ("x", "base")]
    assert compare(inputs, [(tmp_path / "out", sizes["out"])]).unchanged == 1


def compared(tmp_path: Path, *outputs: bytes) -> ByName:
    files = {"base": BASE} | {f"out{n}": data for n, data in enumerate(outputs)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    base, *out = [(tmp_path / name, len(data)) for name, data in files.items()]
    return by_name([base], out)


def test_tensors_are_compared_with_those_of_their_names(tmp_path: Path) -> None:
    other = LONG[:-1] + b"x"
    one = weights(("a", "U8", other), ("b", "I8", b"b"), ("more", "U8", LONG))
    assert compared(tmp_path, one) == ByName(
        unchanged=frozenset(),
        changed=frozenset("ab"),
        reshaped=frozenset("b"),
        new=frozenset({"more"}),
        lost=frozenset({"empty"}),
    )


def test_files_of_an_output_are_one_model(tmp_path: Path) -> None:
    parts = weights(("b", "U8", b"b"), ("empty", "U8", b"")), weights(("a", "U8", LONG))
    assert compared(tmp_path, *parts) == ByName(
        unchanged=frozenset({"a", "b", "empty"}),
        changed=frozenset(),
        reshaped=frozenset(),
        new=frozenset(),
        lost=frozenset(),
    )


def test_a_tensor_that_is_there_twice_has_no_reading(tmp_path: Path) -> None:
    twice = compared(tmp_path, BASE, weights(("a", "U8", LONG)))
    assert twice.unread == ("out1: it has a tensor that another file has as well",)
    (reason,) = compared(tmp_path, b"no header").unread
    assert reason.startswith("out0: not safetensors")
