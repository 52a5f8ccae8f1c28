"""Explain a machine's end from its console.

The console is hostile. It is read only for the message that people see, and to decide whether to
boot once more, which costs a boot and proves nothing. What happened in the machine is in its
evidence.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rules.machines.volumes import NO_RESULTS

CONSOLE = "console"
_LINES = 12
_READ = 1 << 16
# How much of a program's message a sentence quotes.
_QUOTED = 160
_TERMINAL = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
_INIT = re.compile(r"aicert-init: (.+)")
_PANIC = re.compile(r"Kernel panic - not syncing: (.+)")
_NOTHING_TO_BOOT = re.compile(r"No bootable option or device|failed to (?:load|start) Boot")
# Linux prints this if a busy host gave the TPM no time (drivers/char/tpm/tpm-interface.c).
_TPM_IS_LATE = "tpm tpm0: Operation Timed out"
_VERITY = {
    "dm-verity device corrupted": "a volume's bytes do not match its root hash",
    "dm-verity device has I/O error": "a block of a volume could not be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Why a machine ended. `is_chance`: it may not happen again, because a busy host's timers were
    late.
    """

    words: str
    is_chance: bool


def end_of(lines: list[str]) -> End:
    """Return why a machine ended without results, according to its console."""
    text = "\n".join(lines)
    panic = _PANIC.search(text)
    if panic is not None:
        for sign, words in _VERITY.items():
            if sign in panic[1]:
                return End(words=f"{words}, so the kernel stopped", is_chance=False)
        return End(words=f"its kernel stopped: {panic[1][:_QUOTED]}", is_chance=True)
    reasons = _INIT.findall(text)
    if reasons:
        return End(words=f"its init stopped: {reasons[-1][:_QUOTED]}", is_chance=False)
    if _NOTHING_TO_BOOT.search(text):
        return End(words="its firmware found nothing to boot", is_chance=False)
    if lines:
        words = f"it ended by itself; the last line of its console is {lines[-1][:_QUOTED]!a}"
        return End(words=words, is_chance=True)
    return End(words="it ended by itself and wrote nothing to its console", is_chance=True)


def has_late_tpm(lines: list[str]) -> bool:
    """Whether the kernel gave up waiting for its TPM."""
    return any(_TPM_IS_LATE in line for line in lines)


def explained(message: str, lines: list[str]) -> str:
    """Return `message`; if there were no results, with the reason and the console's last lines."""
    reason = f": {end_of(lines).words}" if message == NO_RESULTS else ""
    return "\n".join([message + reason, *lines[-_LINES:]])


def read(work: Path) -> list[str]:
    """Return the lines of the machine and of qemu. They are hostile, and escaped where they are
    shown.
    """
    lines: list[str] = []
    for name in ("qemu.log", CONSOLE):
        # Firmware clears the screen and draws on it, which is noise here.
        text = _TERMINAL.sub("", _end_of_file(work / name))
        lines += [line.strip() for line in text.splitlines() if line.strip()]
    return lines


def console_tail(work: Path) -> str:
    """Return the last lines of `read`, for a person to read."""
    return "\n".join(read(work)[-_LINES:])


def _end_of_file(path: Path) -> str:
    """Return the end of a log, or "" if it cannot be read.

    It is long enough for a panic's first line, which has the reason and precedes a long trace.
    """
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _READ)
            file.seek(start)
            return file.read(_READ).decode("utf-8", "replace")
    except OSError:
        return ""
