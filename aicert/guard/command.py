"""`aicert guard`: replace this process by a command whose Python is guarded; install the guard's
`.pth`.

The command line loads this by name. It runs only one child process, the command's interpreter, to
ask whether it is guarded: setting a variable that nothing reads would guard nothing.
"""

import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from aicert.errors import ConfigError, ToolError
from aicert.files.atomic import write_atomically
from aicert.guard.copies import VARIABLE as COPY_VARIABLE
from aicert.guard.hooks import VARIABLE
from aicert.guard.line import LINE
from aicert.guard.policy import load_policy

NAME = "aicert-guard.pth"
_ASK = "import sys; sys.exit(0 if 'aicert.guard.startup' in sys.modules else 97)"
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")
# The first lines that pip and uv write if the path of the interpreter is too long for a `#!` line.
_LONG = re.compile(rb"""'''exec' "?([^"\n]+?)"? "\$0\"""")
_FIRST_LINES = 4096


def install() -> Path:
    """Write the `.pth` beside this interpreter's packages, and return its path."""
    place = Path(sysconfig.get_path("purelib")) / NAME
    write_atomically(place, LINE.encode())
    return place


def run(policy: str, words: Sequence[str], *, copy: bool = False) -> None:
    """Replace this process by the command, guarded by the policy.

    Raises ConfigError if the command's Python would not be guarded.
    """
    if not words:
        raise ConfigError("no command", hint="aicert guard --policy guard.toml -- python serve.py")
    place = load_policy(policy).path
    program = shutil.which(words[0])
    if program is None:
        raise ConfigError(f"no program {words[0][:80]!a}")
    interpreter = _interpreter(program)
    if interpreter == program and _skips_site(words[1:]):
        raise ConfigError("python -S reads no .pth file, so it would not be guarded")
    environment = os.environ | {VARIABLE: place} | ({COPY_VARIABLE: "1"} if copy else {})
    code = _exit_code(interpreter, environment)
    if code == 97:
        raise ConfigError(
            f"{interpreter} would not be guarded: it has no {NAME}",
            hint=f"{shlex.quote(interpreter)} -m aicert guard --install",
        )
    if code != 0:
        raise ToolError(f"{interpreter} does not start under the guard: exit code {code}")
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program, list(words), environment)  # noqa: S606 - to become it is the command
    except OSError as error:
        raise ToolError(f"cannot start {program!a}: {error.strerror}") from None


def _exit_code(interpreter: str, environment: dict[str, str]) -> int:
    try:
        child = os.posix_spawn(interpreter, [interpreter, "-c", _ASK], environment)
    except OSError as error:
        raise ToolError(f"cannot start {interpreter!a}: {error.strerror}") from None
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _interpreter(program: str) -> str:
    """Return the Python that runs a command: the program itself, or the one named in its first
    lines.
    """
    if _PYTHON.fullmatch(os.path.basename(program)):
        return program
    try:
        with open(program, "rb") as file:
            head = file.read(_FIRST_LINES)
    except OSError as error:
        raise ToolError(f"cannot read {program!a}: {error.strerror}") from None
    first = head.partition(b"\n")[0]
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    long = _LONG.search(head)
    if long is not None:
        words = [os.fsdecode(long[1])]
    if len(words) == 2 and os.path.basename(words[0]) == "env":
        words = [shutil.which(words[1]) or ""]
    if words and _PYTHON.fullmatch(os.path.basename(words[0])):
        if _skips_site(words[1:]):
            raise ConfigError("python -S reads no .pth file, so it would not be guarded")
        return words[0]
    raise ConfigError(
        f"{program} is not recognised as a Python program, so it would not be guarded",
        hint="aicert guard --policy guard.toml -- python SCRIPT",
    )


def _skips_site(words: Sequence[str]) -> bool:
    """Return whether Python's options, which stand before a script, -c or -m, contain -S."""
    takes_next = False
    for word in words:
        if takes_next:
            takes_next = False
            continue
        if not word.startswith("-") or word.startswith("--") or word == "-":
            return False
        # One word may hold several options. These four take the rest of the word, or the next word.
        options = re.split("[cmXW]", word[1:], maxsplit=1)
        if "S" in options[0]:
            return True
        last = word[1 + len(options[0]) :][:1]
        if last in ("c", "m"):
            return False
        takes_next = last != "" and options[1] == ""
    return False
