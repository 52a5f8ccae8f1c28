"""Attacks on the model directory itself: what a real disk can hold and a table of digests cannot.

Each row changes a directory that holds exactly what was certified; `subject.files` must refuse it.
In the last rows the certified files are bad themselves: then the file must be refused.
"""

import json
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aicert.verifier.verify import read_model
from tests.adversarial.forger import FILES, Scene

WEIGHTS = "model.safetensors"


def safetensors(tensors: object, size: int = 8) -> bytes:
    """Return a safetensors file with `size` bytes of weights behind a header of any content."""
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def tensor(begin: int, end: int, shape: tuple[int, ...] = (1,), dtype: str = "F32") -> object:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


GOOD = safetensors({"__metadata__": {"format": "pt"}, "a": tensor(0, 4), "b": tensor(4, 8)})

# The length's first byte is the pickle opcode for a string up to the newline; the weights are
# opcodes.
_ONE = json.dumps({"a": tensor(0, 2, (2,), "U8")}).encode()
TWO_FACED = safetensors(_ONE.ljust(ord("V") - 1) + b"\n", 0) + b"}."


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskAttack:
    """One attack: `change` alters the directory; `weights` are the certified weights."""

    name: str
    shown: str
    change: Callable[[Path], object] = lambda _: None
    weights: bytes = GOOD


def prepared(attack: DiskAttack, folder: Path) -> Scene:
    """Return the scene whose model is read from `folder` after the attack."""
    scene = Scene()
    files = FILES | {WEIGHTS: attack.weights}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    attack.change(folder)
    scene.edit("outputs", lambda _: {"model": files})
    return scene.put("model", read_model(folder))


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def _linked(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    target.write_bytes(FILES["config.json"])
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(target)


def _hard_linked_to_weights(folder: Path) -> None:
    (folder / "copy.safetensors").hardlink_to(folder / WEIGHTS)


def _fifo(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")


def _socket(folder: Path) -> None:
    # The path of a socket must be short, however long the directory's path is.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")
        os.rename(f"{short}/s", folder / "s")


def _folder_link(folder: Path) -> None:
    (folder / "more").symlink_to(folder)


def _deep(folder: Path) -> None:
    path = folder
    for _ in range(70):
        path = path / "d"
    path.mkdir(parents=True)


def _raw_name(name: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"x")

    return change


def _rows() -> Iterator[DiskAttack]:
    row = DiskAttack
    yield row(name="symbolic link", shown="a symbolic link", change=_linked)
    yield row(name="link to a folder", shown="a symbolic link", change=_folder_link)
    yield row(name="hard link", shown="extra     copy", change=_hard_linked_to_weights)
    yield row(name="FIFO", shown="a FIFO", change=_fifo)
    yield row(name="socket", shown="a socket", change=_socket)
    yield row(name="empty folder", shown="empty directory", change=lambda f: (f / "e").mkdir())
    yield row(name="endless folders", shown="nested deeper", change=_deep)
    yield row(name="case twin", shown="differ only in case", change=write("Config.json", b"{}"))
    yield row(name="not NFC", shown="not in Unicode NFC", change=write("cafe\u0301", b"x"))
    yield row(name="escape in a name", shown="\\x1b[2K", change=write("\x1b[2K\x1b[1Aok", b"x"))
    yield row(name="line end in a name", shown="a\\nok", change=write("a\nok", b"x"))
    yield row(name="right to left", shown="\\u202e", change=write("a\u202eslx", b"x"))
    yield row(name="backslash", shown="a backslash", change=write("a\\b", b"x"))
    yield row(name="no UTF-8", shown="not valid UTF-8", change=_raw_name(b"\xff\xfe"))
    yield row(
        name="link that looks inert", shown="'.git'", change=lambda f: (f / ".git").symlink_to(f)
    )
    yield row(
        name="linked licence",
        shown="a symbolic link",
        change=lambda f: (f / "LICENSE").symlink_to("config.json"),
    )
    bad = pickle.dumps({"a": 1})
    yield row(name="pickle as weights", shown="not safetensors", weights=bad)
    yield row(name="old pickle as weights", shown="not safetensors", weights=b"(dp0\n.")
    yield row(
        name="pickle beside the weights",
        shown="not safetensors",
        change=write("x.safetensors", bad),
    )
    yield row(
        name="pickle that is a header too",
        shown="more than one line",
        weights=TWO_FACED,
    )
    whole = tensor(0, 8, (2,))
    for name, shown, tensors in (
        ("overlapping tensors", "before it ends", {"a": whole, "b": tensor(4, 8)}),
        ("same place twice", "before it ends", {"a": whole, "b": whole}),
        ("gap between tensors", "before it ends", {"a": tensor(4, 8)}),
        ("bytes after tensors", "end at 4 of 8", {"a": tensor(0, 4)}),
        ("out of range", "outside the file", {"a": tensor(0, 12, (3,))}),
        ("backwards", "outside the file", {"a": tensor(8, 0, (0,))}),
        ("shape that needs more", "not have the bytes", {"a": tensor(0, 8, (3,))}),
        ("shape beyond all", "not have the bytes", {"a": tensor(0, 8, (2**62, 2**62))}),
        ("unknown dtype", "unknown dtype", {"a": tensor(0, 8, (1,), "X64")}),
        ("negative shape", "is not a size", {"a": tensor(0, 8, (-1, -2))}),
        ("key given twice", "given twice", b'{"__metadata__":{},"__metadata__":{}}'),
    ):  # fmt: skip
        yield row(name=f"safetensors: {name}", shown=shown, weights=safetensors(tensors))
    yield row(
        name="safetensors: header beyond the file",
        shown="does not fit",
        weights=(1 << 40).to_bytes(8, "little") + b"{}",
    )


ATTACKS = tuple(_rows())
