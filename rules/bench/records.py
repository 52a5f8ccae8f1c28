"""How fast rows are read: converted to canonical form, and checked by the strict reader.

`aicert records` reads each file in a process with one thread; its CPU time and peak memory count.
The files are made here, one at a time; the largest has 2 GB.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError

SMALL, LARGE = 1 << 28, 1 << 31
_BLOCK_ROWS = 8192
_WORDS = (
    "what",
    "is",
    "asked",
    "of",
    "a",
    "row",
    "and",
    "how",
    "good",
    "an",
    "answer",
    "would",
    "be",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One file that was read: its MB per second of CPU, and the peak memory in bytes."""

    rate: float
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured for the same rows in several forms. `in_place`: canonical; `copied`:
    canonical except for the end of the last line; `spaced`: with spaces and escapes, as most tools
    write; `large`: many of the spaced rows.
    """

    in_place: Reading
    copied: Reading
    spaced: Reading
    large: Reading


def measure(folder: Path) -> Measured:
    """Make the files in `folder` and read each."""
    canonical, spaced = block(canonical=True), block(canonical=False)
    return Measured(
        in_place=_read(folder, canonical, SMALL),
        copied=_read(folder, canonical, SMALL, without=1),
        spaced=_read(folder, spaced, SMALL),
        large=_read(folder, spaced, LARGE),
    )


def block(*, canonical: bool) -> bytes:
    """Return rows of about 600 bytes, in canonical form or in `json.dumps`' default form."""
    lines = []
    for number in range(_BLOCK_ROWS):
        words = [_WORDS[(number * 7 + place * place) % len(_WORDS)] for place in range(110)]
        row = {
            "instruction": f"{number}: {' '.join(words[:20])}?",
            "input": "" if number % 3 else f"«{' '.join(words[20:30])}»",
            "output": f"{' '.join(words[30:])}.\n" + "naïve – café" * (number % 2),
        }
        if canonical:
            lines.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        else:
            lines.append(json.dumps(row))
    return "".join(f"{line}\n" for line in lines).encode()


def _read(folder: Path, rows: bytes, size: int, *, without: int = 0) -> Reading:
    with _made(folder / "rows.jsonl", rows, size, without) as path:
        read = path.stat().st_size
        process = subprocess.Popen(
            [sys.executable, "-m", "aicert", "records", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        # wait4 reports the resources of this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ToolError(f"cannot read the rows: exit code {process.returncode}")
    seconds = usage.ru_utime + usage.ru_stime
    return Reading(rate=read / 1e6 / seconds, memory=usage.ru_maxrss << 10)


@contextmanager
def _made(path: Path, rows: bytes, size: int, without: int) -> Iterator[Path]:
    """Write a file of at least `size` bytes, minus the last `without`; remove it afterwards."""
    try:
        with path.open("wb") as file:
            for _ in range(-(-size // len(rows))):
                file.write(rows)
            file.truncate(file.tell() - without)
        yield path
    finally:
        path.unlink(missing_ok=True)
