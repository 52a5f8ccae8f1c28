"""`./doit test`: run ruff, mypy and pytest over the whole repository; `aicert/` must be covered.

The measured machine is built and booted in parallel, because both sides spend much time waiting. It
needs Debian's tools and prints which accelerator it uses.

With arguments, only pytest runs, with those arguments.
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

# Lines and branches reached in this process; commands run as separate programs do not count.
# Missing ones are listed.
COVERAGE = ("--cov", "--cov-report=")
COVERED_BY_PROGRAMS, COVERED_BY_LATER = ".coverage-programs", ".coverage-later"
COVERED_BY_REST = ".coverage-rest"
COMBINE = ("coverage", "combine", COVERED_BY_PROGRAMS, COVERED_BY_LATER, COVERED_BY_REST)
REPORT = ("coverage", "report", "--show-missing", "--skip-covered")
# Outside the trust core: its results are compared with bytes before they count. In `records` these
# are the converters, which run as separate programs and use pyarrow; the strict reader checks their
# output. In `channel` and `serving` it is the code that moves bytes over connections, which may end
# at any time.
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
# Tests that run whole commands, servers and trainings: half of the total time. The rest is
# everything outside these paths, so that no folder can be forgotten.
PROGRAMS = ("tests/adversarial", "tests/e2e")
# A third of them, so that both processors stay busy to the end. pytest fails if one of these paths
# no longer exists.
LATER = (
    "tests/e2e/azure",
    "tests/e2e/certify/test_certify_failures.py",
    "tests/e2e/certify/test_chain.py",
    "tests/e2e/repository/test_dvc.py",
    "tests/e2e/repository/test_dvc_images.py",
)
REST = tuple(f"--ignore={folder}" for folder in PROGRAMS)
# Real boots, in a part of their own: they need tools that the others do not.
MACHINE = ("-m", "machine and not whole", "tests/machine")
# How many test programs run at once. Each emulated machine and each training uses one processor.
LANES = 2
SOURCES = ("aicert", "browser", "rules", "enclave_runner", "tests", "dodo.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tool of the test run.

    `beside`: it may run in parallel with the parts next to it that may also run in parallel.
    """

    name: str
    command: tuple[str, ...]
    beside: bool = False
    # The file for its coverage data.
    coverage: str | None = None


def parts(arguments: list[str]) -> list[Part]:
    """Return what `./doit test ARGUMENTS` runs, in order: quick parts first, and of parallel parts
    the longest first.
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
    """Resolve a test's path against the caller's directory; leave other arguments to pytest."""
    path, colons, rest = argument.partition("::")
    located = users_path(path)
    return f"{located}{colons}{rest}" if located.exists() and not path.startswith("-") else argument


def run_parts(
    todo: Sequence[Part],
    run: Callable[[Sequence[Part]], Sequence[Ended]],
    *,
    log: Callable[[str], None] = say,
) -> int:
    """Run every part, even after a failure, and print how each ended and which tests failed.
    Returns 0, or 1 if a part failed. `run` receives parts that may run at once.
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
    """Install the test tools if they are missing."""
    try:
        bootstrap.ensure_test_tools()
    except installer.InstallError as error:
        kind = ConfigError if error.exit_code == ConfigError.exit_code else ToolError
        raise kind(error.message, hint=error.hint) from None


def _run(together: Sequence[Part]) -> Sequence[Ended]:
    if len(together) == 1:
        # Give it our own terminal: a debugger needs it.
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
    """The `test` command."""

    # Without this pytest would collect a class named Test*.
    __test__ = False
    doc_purpose = "run ruff, mypy and all tests; with arguments, only pytest with them"
    doc_usage = "[PYTEST ARGUMENTS…]"
    doc_description = """\
One part builds, boots, certifies and verifies the measured machine's image, which takes
twenty minutes if machines are emulated. It runs in parallel with other tests. To skip it, or to
run nothing else:

  ./doit test tests
  ./doit test -m machine tests/machine

The end-to-end test, with a real training in an emulated machine, takes ten
minutes of CPU time or more, and is not part of this. To run it:

  ./doit test -m whole tests/machine

Exit codes: 0 all passed, 1 something failed, 2 a tool is missing.
"""

    def parse_execute(self, in_args: list[str]) -> int:
        """Pass everything after `test` to pytest, options included."""
        return int(super().parse_execute(["--", *in_args]))

    def execute(self, params: Any, args: list[str]) -> int:
        """Install the test tools if they are missing, then run."""
        ensure_tools()
        if args:
            say("test  with arguments, ruff and mypy are skipped")
        return run_parts(parts(args), _run)
