"""Make the inputs of the shipped run: `examples/tiny-llama/` and `examples/alpaca/`.

They are generated, with the same bytes everywhere, and are not in git. Only a missing directory is
made: an edited one belongs to the user, and the lockfile is then stale. Each is written under
another name and then renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from aicert.errors import ToolError
from rules.host.places import IS_CHECKOUT
from rules.host.work import only_one

LOCK = Path(".aicert") / "example.lock"
MODEL = "examples/tiny-llama"
DATA = "examples/alpaca"
EXPECTED: dict[str, dict[str, str]] = {
    DATA: {
        "train.jsonl": ("55a0473d060751196da05776c9e674c979c0618eb2ca51fb72093ecae1d17382"),
    },
    MODEL: {
        "config.json": ("1f8f08655a3cb00b4945e1ea2a41a4977ac9ccc90d88e0b9781b3711ec4a839d"),
        "generation_config.json": (
            "f8d6d5d8d8521d521df1f07e83011e7788931f54f69f21673a118e3b94729e1e"
        ),
        "model.safetensors": ("bed269482d2868c2dd5b29426745c9f441e2a353dee2c8b8fee8d2877d846133"),
        "tokenizer.json": ("b1b9ce74cefbe1e1b6f3d597bdbdd1b8199fa2f3101cf562ae6e37b919ff4d37"),
        "tokenizer_config.json": (
            "3b1cbe52aa700b5f74ac21582732125cebe78f657ed63d9237763b075754aac8"
        ),
    },
}


def is_of(sources: Iterable[str]) -> bool:
    """Whether one of a run's sources is the example's. In other repositories such a folder is the
    owner's.
    """
    return IS_CHECKOUT and not {f"path:{folder}" for folder in EXPECTED}.isdisjoint(sources)


def is_needed(root: Path, sources: Iterable[str]) -> bool:
    """Whether these sources of a run name something that still has to be made."""
    return not is_made(root) and is_of(sources)


def is_made(root: Path) -> bool:
    """Whether nothing is missing: both exist, or this is not the checkout that ships them.

    An edited one belongs to the user: the lockfile notices that, not this function.
    """
    return not IS_CHECKOUT or all(os.path.lexists(root / folder) for folder in EXPECTED)


def make_example(root: Path, on_line: Callable[[str], None] | None = None) -> bool:
    """Make what is missing. Returns whether anything was. Raises ToolError. Processes
    take turns.
    """
    if is_made(root):
        return False
    with only_one(root / LOCK, "the example is being made by another process"):
        return _make_missing(root, on_line)


def _make_missing(root: Path, on_line: Callable[[str], None] | None) -> bool:
    missing = [folder for folder in EXPECTED if not os.path.lexists(root / folder)]
    for folder in missing:
        if on_line is not None:
            on_line(f"making {folder}")
        content = _content(folder)
        if {name: _sha256(data) for name, data in content.items()} != EXPECTED[folder]:
            raise ToolError(
                f"{folder}: the files made here differ from the digests in {Path(__file__).name}"
            )
        _put(root / folder, content)
    return bool(missing)


def _content(folder: str) -> dict[str, bytes]:
    # Imported only if something has to be made: the check runs before every certify.
    from rules.example import model, rows

    if folder == DATA:
        return {"train.jsonl": rows.jsonl()}
    texts = [text for row in rows.rows() for text in (row.instruction, row.input, row.output)]
    return model.model_files(texts)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put(folder: Path, content: dict[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new_folder = beside / "new"
        new_folder.mkdir()
        for name, data in content.items():
            (new_folder / name).write_bytes(data)
        os.rename(new_folder, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
