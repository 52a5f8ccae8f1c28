"""`./doit test`: ruff, mypy and pytest over the whole repository; aicert/ must be covered. Beside
those tests the measured machine is built and booted, which needs Debian's tools and says with which
accelerator: together they take half the time, because each waits a good deal.

With arguments only pytest runs, and gets them: they name the tests that somebody is working on.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aicert.errors import ConfigError, ToolError
from rules.commands import lanes
from rules.commands.base import Command
from rules.commands.lanes import Ended, Program
from rules.host import bootstrap, installer
from rules.host.progress import say, seconds
from rules.host.terminal import users_path

# Lines and branches reached in this process: what commands run as programs of their own does not
# count. What is missing is listed.
COVERAGE = ("--cov", "--cov-report=")
COVERED_BY_PROGRAMS, COVERED_BY_LATER = ".coverage-programs", ".coverage-later"
COVERED_BY_REST = ".coverage-rest"
COMBINE = ("coverage", "combine", COVERED_BY_PROGRAMS, COVERED_BY_LATER, COVERED_BY_REST)
REPORT = ("coverage", "report", "--show-missing", "--skip-covered")
# Not the trust core: what it says is compared with bytes before it counts. Of `records` that is
# what converts, in programs of their own and with pyarrow; the strict reader checks what they give.
# Of `channel` and `serving`, what carries bytes over connections, which end whenever they like.
AROUND = (
    "aicert/exports/*,aicert/signing/*,aicert/sources/*,aicert/cache/*,"
    "aicert/guard/*,aicert/cli/guard.py,aicert/broker/*,aicert/cli/lease/broker.py,"
    "aicert/channel/*,aicert/serving/endpoint.py,aicert/serving/tls.py,"
    "aicert/cli/signing.py,aicert/cli/exports.py,aicert/cli/sources.py,"
    "aicert/records/arrow.py,aicert/records/packing.py,aicert/records/parquet*.py,"
    "aicert/records/source.py,aicert/records/convert.py"
)
CORE_COVERED = (*REPORT, f"--omit={AROUND}", "--fail-under=100")
AROUND_COVERED = (*REPORT, f"--include={AROUND}", "--fail-under=90")
# Tests that run whole commands, servers and trainings: half of all the time. The rest is whatever
# does not lie here, so that no folder can be forgotten.
PROGRAMS = ("tests/adversarial", "tests/e2e")
# A third of those, so that both processors are busy to the end. Where one of these is gone, pytest
# fails.
LATER = (
    "tests/e2e/azure",
    "tests/e2e/certify/test_certify_failures.py",
    "tests/e2e/certify/test_chain.py",
    "tests/e2e/repository/test_dvc.py",
    "tests/e2e/repository/test_dvc_images.py",
)
REST = tuple(f"--ignore={folder}" for folder in PROGRAMS)
# Real boots, by themselves: they need what the others do not.
MACHINE = ("-m", "machine and not whole", "tests/machine")
# So many programs of tests at once. Each emulated machine and each training takes one processor.
LANES = 2
SOURCES = ("aicert", "browser", "rules", "enclave_runner", "tests", "dodo.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tool of the test run. `beside`: it may run at once with its neighbours that may."""

    name: str
    command: tuple[str, ...]
    beside: bool = False
    # Where it writes what it covered.
    coverage: str | None = None


def parts(arguments: list[str]) -> list[Part]:
    """What `./doit test ARGUMENTS` runs, in order: the quick ones first, of those that run at once
    the longest.
    """
    if arguments:
        return [Part(name="pytest", command=("pytest", *map(_located, arguments)))]
    sources = tuple(name for name in SOURCES if Path(name).exists())
    programs = ("pytest", *COVERAGE, *(f"--ignore={place}" for place in LATER), *PROGRAMS)
    later = ("pytest", *COVERAGE, *LATER)
    rest = ("pytest", *COVERAGE, *REST)
    return [
        Part(name="ruff check", command=("ruff", "check", *sources)),
        Part(name="ruff format", command=("ruff", "format", "--check", *sources)),
        Part(name="mypy", command=("mypy", *sources)),
        Part(name="programs", command=programs, beside=True, coverage=COVERED_BY_PROGRAMS),
        Part(name="measured machine", command=("pytest", *MACHINE), beside=True),
        Part(name="more programs", command=later, beside=True, coverage=COVERED_BY_LATER),
        Part(name="all other tests", command=rest, beside=True, coverage=COVERED_BY_REST),
        Part(name="coverage of all", command=COMBINE),
        Part(name="coverage of the trust core: 100 %", command=CORE_COVERED),
        Part(name="coverage of exports, sources and row converters: 90 %", command=AROUND_COVERED),
    ]


def _located(argument: str) -> str:
    """A test named by a path means the caller's path; everything else is pytest's own business."""
    path, colons, rest = argument.partition("::")
    located = users_path(path)
    return f"{located}{colons}{rest}" if located.exists() and not path.startswith("-") else argument


def run_parts(
    todo: Sequence[Part],
    run: Callable[[Sequence[Part]], Sequence[Ended]],
    *,
    log: Callable[[str], None] = say,
) -> int:
    """Run every part, also after one failed; say how each ended and which tests failed. 0, or 1
    when one failed. `run` gets those that may run at once.
    """
    ended: list[Ended] = []
    for beside, neighbours in itertools.groupby(todo, key=lambda part: part.beside):
        together = list(neighbours)
        for group in [together] if beside else [[part] for part in together]:
            log(f"test  {', '.join(part.name for part in group)}")
            ended += run(group)
    for one in ended:
        word = "FAILED" if one.code else "ok    "
        log(f"{word}  {one.name}  {seconds(one.seconds)}")
    for failure in (failure for one in ended for failure in one.failures):
        log(failure)
    return int(any(one.code for one in ended))


def ensure_tools() -> None:
    """Install the tests' tools where they are missing."""
    try:
        bootstrap.ensure_test_tools()
    except installer.InstallError as error:
        kind = ConfigError if error.exit_code == ConfigError.exit_code else ToolError
        raise kind(error.message, hint=error.hint) from None


def _run(together: Sequence[Part]) -> Sequence[Ended]:
    if len(together) == 1:
        # With our own terminal: a debugger needs it.
        started = time.monotonic()
        code = subprocess.run(_command(together[0])).returncode
        return [Ended(name=together[0].name, code=code, seconds=time.monotonic() - started)]
    programs = [
        Program(
            name=part.name,
            command=_command(part),
            environment={} if part.coverage is None else {"COVERAGE_FILE": part.coverage},
        )
        for part in together
    ]
    at_once = min(LANES, len(os.sched_getaffinity(0)))
    return lanes.run(programs, lanes=at_once, show=lambda line: print(line, flush=True))


def _command(part: Part) -> tuple[str, ...]:
    return (sys.executable, "-m", *part.command)


class Test(Command):
    """The tests' command line."""

    # pytest would take a class named Test* for tests.
    __test__ = False
    doc_purpose = "run ruff, mypy and all tests; with arguments, only pytest with them"
    doc_usage = "[PYTEST ARGUMENTS…]"
    doc_description = """\
One part is the measured machine: its image is built, booted, certified and verified, which takes
twenty minutes if machines are emulated. It runs beside the other tests. To leave it out, or to run
only that:

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
