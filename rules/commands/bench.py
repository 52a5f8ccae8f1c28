"""`./doit bench`: measure the project's targets, and write `docs/benchmarks.md`.

Each value is the median of several runs on this machine, with its target next to it. A missed
target is reported as missed. Sections that are not measured this time stay as they are.
"""

import datetime
import os
import platform
import re
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError
from rules.bench.benchmarks import BENCHMARKS, Benchmark, Row
from rules.commands.base import Command
from rules.host.progress import say

DOCUMENT = Path("docs/benchmarks.md")
HEAD = """\
# Benchmarks

Written by `./doit bench`; `./doit bench --list` says what each one measures. Values are medians,
and absolute times depend on the machine as much as on the code.
"""
_SECTION = re.compile(r"^## (\S+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def machine() -> str:
    """Return the machine in one line: processor, cores, memory, kernel, Python."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, {memory:.0f} GiB, "
        f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    )


def section(benchmark: Benchmark, rows: list[Row], today: str) -> str:
    """Return the Markdown of one benchmark, without its heading."""
    lines = [f"\n{benchmark.what}.", f"{today}, {machine()}.", "", "| | measured | target | |"]
    lines.append("|---|--:|--:|---|")
    for row in rows:
        verdict = "" if row.met is None else "met" if row.met else "**missed**"
        lines.append(f"| {row.what} | {row.measured} | {row.target} | {verdict} |")
    return "\n".join(lines) + "\n\n"


def merged(old: str, new: dict[str, str]) -> str:
    """Return the document with the sections of `new` replacing the old ones, in a fixed order."""
    sections = {name: body for name, body in _SECTION.findall(old) if name in BENCHMARKS} | new
    body = "".join(f"## {name}\n{sections[name]}" for name in BENCHMARKS if name in sections)
    return f"{HEAD}\n{body}".rstrip("\n") + "\n"


class Bench(Command):
    """The `bench` command."""

    doc_purpose = "measure against the project's targets; writes docs/benchmarks.md"
    doc_usage = "[NAME…] [--all] [--list]"
    doc_description = (
        "Without names, bench runs the quick ones. "
        "Exit codes: 0 all targets met, 1 a target was missed, 2 a value could not be measured."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "all",
            "short": "a",
            "long": "all",
            "type": bool,
            "default": False,
            "help": "also run the slow ones",
        },
        {
            "name": "list",
            "short": "l",
            "long": "list",
            "type": bool,
            "default": False,
            "help": "list the benchmarks",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Run the chosen benchmarks, print them and write the document."""
        if params["list"]:
            for name, benchmark in BENCHMARKS.items():
                slow = "  (slow: by name or --all)" if benchmark.slow else ""
                print(f"{name:<15} {benchmark.what}{slow}")
            return 0
        sections: dict[str, str] = {}
        missed = False
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        for name in chosen(args, every=params["all"]):
            say(f"bench  {name}: {BENCHMARKS[name].what}")
            rows = BENCHMARKS[name].run()
            for row in rows:
                missed = missed or row.met is False
                print(f"  {row.what}: {row.measured}   (target {row.target or 'none'})")
            sections[name] = section(BENCHMARKS[name], rows, today)
        DOCUMENT.parent.mkdir(exist_ok=True)
        old = DOCUMENT.read_text() if DOCUMENT.exists() else ""
        DOCUMENT.write_text(merged(old, sections))
        say(f"wrote {DOCUMENT}")
        return int(missed)


def chosen(names: list[str], *, every: bool) -> list[str]:
    """Return the benchmarks named on the command line, or else the quick ones."""
    for name in names:
        if name not in BENCHMARKS:
            raise ConfigError(
                f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}",
                hint="./doit bench --list",
            )
    if names:
        return names
    return [name for name, benchmark in BENCHMARKS.items() if every or not benchmark.slow]
