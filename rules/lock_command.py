"""`./doit lock [RUN…] [--check]`."""

import sys
from pathlib import Path
from typing import Any, ClassVar

from aicert import lockfile as form
from aicert.errors import AicertError
from rules import config, example, lock
from rules.command import RunTasks
from rules.reporter import show_error


def write_lock(root: Path, run: config.Run) -> None:
    """Resolve and write one run's lockfile; prints what a reviewer approves."""
    fresh = lock.resolve(root, run)
    changed = lock.write(root, fresh)
    show_lock(root, run.name, fresh.data, "wrote" if changed else "unchanged")


def show_lock(root: Path, run: str, data: bytes, word: str) -> None:
    """Identity and PCR 14 of a lockfile, on stdout."""
    path = lock.path_of(root, run).relative_to(root)
    print(f"{word:<10} {path}  {form.identity(data)}")
    print(f"{'':<10} PCR 14  sha256:{form.pcr14(data).hex()}", flush=True)


class Lock(RunTasks):
    """Write the lockfiles, or only compare."""

    name = "lock"
    doc_purpose = "resolve inputs and write lockfiles/, printing each PCR 14"
    doc_usage = "[RUN …]"
    doc_description = """\
Hashes every input of each run and writes lockfiles/RUN.lock.toml, with the listings of directories
in lockfiles/RUN/. Review the change and commit it: a certificate says that a machine measured this.

  ./doit lock && git diff lockfiles/
  ./doit lock --check         # write nothing; exit 1 if a lockfile is not that of the bytes at hand
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        *RunTasks.cmd_options,
        {
            "name": "check",
            "short": "",
            "long": "check",
            "type": bool,
            "default": False,
            "help": "resolve again and compare, write nothing",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Lock or check the named runs; without names, every run."""
        root = Path.cwd()
        project = config.load(root)
        runs = [project.run(name) for name in args] or list(project.runs.values())
        if not params["check"]:
            return super().execute(params, [f"lock:{run.name}" for run in runs])
        example.make_example(root)
        return max(_check(root, run) for run in runs)


def _check(root: Path, run: config.Run) -> int:
    try:
        current = lock.current(root, run)
    except AicertError as error:
        sys.stdout.flush()
        show_error(error)
        return 1
    show_lock(root, run.name, current.data, "fresh")
    return 0
