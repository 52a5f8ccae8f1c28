"""Name the image's layers in the cache by a digest of everything that goes into a layer."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from aicert.errors import ToolError
from aicert.files.machine_code import MACHINE_CODE, machine_code


def key(facts: Iterable[str]) -> str:
    """Return a short name for exactly these facts, in this order."""
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def file_facts(folder: Path, pattern: str = "**/*") -> list[str]:
    """Return name and digest of each file in `folder` that matches `pattern`, except byte code.

    Raises ToolError if there is none, because a key made from nothing never changes.
    """
    facts = [
        f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.glob(pattern))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    if not facts:
        raise ToolError(
            f"the image's cache key cannot be made: {str(folder)!a} holds no file like {pattern}",
            hint="git status",
        )
    return facts


def code_facts(root: Path, entries: tuple[str, ...] = MACHINE_CODE) -> list[str]:
    """Return name and digest of each file of this project that runs in the machine."""
    return [f"{path} {fact.sha256}" for path, fact in sorted(machine_code(root, entries).items())]
