"""A failed training: its last error, and a note so that it is not repeated for nothing.

The failure is recorded only on this computer, with everything that could change the outcome:
lockfile, code, training environment or image, and the machine's settings. This is only a
convenience.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

from aicert.errors import RejectedError
from aicert.files.machine_code import code_digest
from aicert.text import safe
from rules.host import training_env
from rules.host.places import code_of
from rules.host.progress import say
from rules.image.place import lock_of
from rules.machines.machine import Machine
from rules.project import results
from rules.project.config import Run
from rules.project.locked import Lock

# Part of the message of `why` and `certify` for a run that is not tried again.
UNCHANGED = "nothing has changed since"
_FOLDER = Path(".aicert") / "failed"
# How much of the log to read: an error's own lines are at its end.
_TAIL = 1 << 16
_MOST_LINES = 12
# How Python, and the audit hook, begin the line with the error.
_ERROR = re.compile(
    r"(?:\[rank\d+\]: )?(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b|aicert: )"
)
# torchrun's message when one of its trainers has ended, and the start of its log lines.
_OF_TORCHRUN = re.compile(r"torch\.distributed\.elastic|[WEI]\d{4} |Traceback \(most recent")


def remember(root: Path, run: Run, current: Lock) -> None:
    """Record that the run in place failed, and everything that could change that."""
    path = root / _FOLDER / run.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_state(root, run, current), encoding="ascii")


def is_known(root: Path, run: Run, current: Lock) -> bool:
    """Whether the run in place failed, and nothing that could change that has changed."""
    path = root / _FOLDER / run.name
    return path.is_file() and path.read_text(encoding="ascii") == _state(root, run, current)


def refusal(run: Run, error: RejectedError) -> RejectedError:
    """Return the error for a run that is not tried again; `error` says why it failed."""
    first = error.message.split("\n", 1)[0]
    return RejectedError(
        f"{first}\n{UNCHANGED}, so it is not trained again",
        error.result,
        hint=f"./doit certify {run.name}  # trains it again",
    )


def say_last_words(root: Path, run: Run, log: Path) -> None:
    """Print the trainer's last error at the end of a failed run's output."""
    say(f"./doit verify {run.name} --policy {run.machine.driver.policy} shows every check")
    say(f"{log.relative_to(root)} ends with:")
    for line in last_error(log):
        say(safe(line))


def keep_log(root: Path, run: Run, log: Path) -> Path | None:
    """Keep the log of a repeated run whose results are thrown away. Returns the copy, relative to
    the root; None if there is no log.
    """
    kept = _FOLDER / f"{run.name}.log"
    try:
        (root / kept).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, root / kept)
    except FileNotFoundError:
        return None
    return kept


def last_error(log: Path) -> list[str]:
    """Return the lines of the last error in a log, or its last line if there is no error."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            text = file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    for number in reversed(range(len(lines))):
        if _ERROR.match(lines[number]) and not _OF_TORCHRUN.match(lines[number]):
            ends = [at for at in range(number + 1, len(lines)) if _OF_TORCHRUN.match(lines[at])]
            return lines[number : min([*ends, number + _MOST_LINES])]
    return lines[-1:]


def _state(root: Path, run: Run, current: Lock) -> str:
    certificate = results.certificate_path(root, run.name)
    image = root / lock_of(gpu=run.machine.gpu, tools=run.machine.tools)
    in_image = run.machine.driver.in_image and image.is_file()
    parts = (
        current.data,
        certificate.read_bytes() if certificate.is_file() else b"",
        image.read_bytes() if in_image else b"",
        str(code_digest(code_of(root))).encode(),
        training_env.location(root).name.encode(),
        _settings(run.machine).encode(),
    )
    return "\n".join(hashlib.sha256(part).hexdigest() for part in parts) + "\n"


def _settings(machine: Machine) -> str:
    return json.dumps(
        [
            machine.name,
            machine.driver.name,
            machine.memory,
            machine.scratch,
            machine.time_limit,
            machine.processes,
            machine.cpus,
            machine.gpu,
            sorted((key, str(value)) for key, value in machine.options.items()),
        ]
    )
