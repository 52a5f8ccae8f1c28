"""Read from /proc what a process and its descendants use.

A process that ends while it is being read is not counted. Memory is the sum of resident sets, so
pages that processes share count once for each process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = 1  # the second field of statm


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """The use at one moment; `threads` is what the kernel counts for its limit on processes."""

    processes: int
    threads: int
    resident_bytes: int


def usage_below(pid: int) -> Usage:
    """Return what `pid` and all its descendants use now."""
    waiting, processes, threads, pages = [pid], 0, 0, 0
    while waiting:
        current = waiting.pop()
        try:
            tasks = os.listdir(f"/proc/{current}/task")
            waiting.extend(_children(current, tasks))
            pages += int(_read(f"/proc/{current}/statm").split()[_RESIDENT])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
        processes += 1
        threads += len(tasks)
    return Usage(processes=processes, threads=threads, resident_bytes=pages * _PAGE)


def children_of(pid: int) -> list[int]:
    """Return the child processes of `pid` that nobody has waited for yet; none if it is gone."""
    try:
        return list(_children(pid, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        return []


def _children(pid: int, tasks: Iterable[str]) -> Iterator[int]:
    for task in tasks:
        yield from map(int, _read(f"/proc/{pid}/task/{task}/children").split())


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def bytes_below(folder: str, *, enough: int) -> int:
    """Return how many bytes the files below `folder` take on disk; stop counting past `enough`."""
    total, waiting = 0, [folder]
    while waiting and total <= enough:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total
