"""`./doit test`: ruff, mypy and pytest over the whole repository; aicert/ must be covered. Then the
measured machine is built and booted, which needs Debian's tools and says with which accelerator.

With arguments only pytest runs, and gets them: they name the tests that somebody is working on.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aicert.errors import ConfigError, ToolError
from rules.commands.base import Command
from rules.host import bootstrap, installer
from rules.host.progress import say, seconds
from rules.host.terminal import users_path

# Lines and branches reached in this process: what commands run as programs of their own does not
# count. What is missing is listed.
COVERAGE = ("--cov", "--cov-report=")
REPORT = ("coverage", "report", "--show-missing", "--skip-covered")
# Not the trust core: what it says is compared with bytes before it counts. Of `records` that is
# what converts, in programs of their own and with pyarrow; the strict reader checks what they give.
AROUND = (
    "aicert/exports/*,aicert/signing/*,aicert/sources/*,aicert/cache/*,"
    "aicert/cli/signing.py,aicert/cli/exports.py,aicert/cli/sources.py,"
    "aicert/records/arrow.py,aicert/records/packing.py,aicert/records/parquet*.py,"
    "aicert/records/source.py,aicert/records/convert.py"
)
CORE_COVERED = (*REPORT, f"--omit={AROUND}", "--fail-under=100")
AROUND_COVERED = (*REPORT, f"--include={AROUND}", "--fail-under=90")
# Real boots, by themselves: they take longest and need what the others do not.
MACHINE = ("-m", "machine and not whole", "tests/machine")
SOURCES = ("aicert", "rules", "enclave_runner", "tests", "dodo.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tool of the test run."""

    name: str
    command: tuple[str, ...]


def parts(arguments: list[str]) -> list[Part]:
    """What `./doit test ARGUMENTS` runs, in order: the quick ones first."""
    if arguments:
        return [Part(name="pytest", command=("pytest", *map(_located, arguments)))]
    sources = tuple(name for name in SOURCES if Path(name).exists())
    return [
        Part(name="ruff check", command=("ruff", "check", *sources)),
        Part(name="ruff format", command=("ruff", "format", "--check", *sources)),
        Part(name="mypy", command=("mypy", *sources)),
        Part(name="pytest", command=("pytest", *COVERAGE)),
        Part(name="coverage of the trust core: 100 %", command=CORE_COVERED),
        Part(name="coverage of exports, sources and row converters: 90 %", command=AROUND_COVERED),
        Part(name="measured machine", command=("pytest", *MACHINE)),
    ]


def _located(argument: str) -> str:
    """A test named by a path means the caller's path; everything else is pytest's own business."""
    path, colons, rest = argument.partition("::")
    located = users_path(path)
    return f"{located}{colons}{rest}" if located.exists() and not path.startswith("-") else argument


def run_parts(
    todo: list[Part], run: Callable[[tuple[str, ...]], int], *, log: Callable[[str], None] = say
) -> int:
    """Run every part, also after one failed; say how each ended. 0, or 1 when one failed."""
    summary: list[str] = []
    failed = False
    for part in todo:
        log(f"test  {part.name}")
        started = time.monotonic()
        code = run(part.command)
        failed = failed or code != 0
        word = "ok    " if code == 0 else "FAILED"
        summary.append(f"{word}  {part.name}  {seconds(time.monotonic() - started)}")
    for line in summary:
        log(line)
    return int(failed)


def ensure_tools() -> None:
    """Install the tests' tools where they are missing."""
    try:
        bootstrap.ensure_test_tools()
    except installer.InstallError as error:
        kind = ConfigError if error.exit_code == ConfigError.exit_code else ToolError
        raise kind(error.message, hint=error.hint) from None


def _run(command: tuple[str, ...]) -> int:
    return subprocess.run([sys.executable, "-m", *command]).returncode


class Test(Command):
    """The tests' command line."""

    # pytest would take a class named Test* for tests.
    __test__ = False
    doc_purpose = "run ruff, mypy and all tests; with arguments, only pytest with them"
    doc_usage = "[PYTEST ARGUMENTS…]"
    doc_description = """\
The last part is the measured machine: its image is built, booted, certified and verified, which
takes half an hour if machines are emulated. To leave those tests out, or to run only them:

  ./doit test tests
  ./doit test -m machine tests/machine

The whole path, with a real training in an emulated machine, takes eight
minutes of a processor's time and more, and is left out. To run it:

  ./doit test -m whole tests/machine

Exit codes: 0 all passed, 1 something failed, 2 a tool is missing.
"""

    def parse_execute(self, in_args: list[str]) -> int:
        """Everything after `test` is pytest's, options included."""
        return int(super().parse_execute(["--", *in_args]))

    def execute(self, params: Any, args: list[str]) -> int:
        """Install the tests' tools where they are missing, then run."""
        ensure_tools()
        if args:
            say("test  arguments were given: ruff and mypy are left out")
        return run_parts(parts(args), _run)
