"""`./doit lock [RUN…] [--check]`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aicert.errors import AicertError, LockError, ToolError
from aicert.text import safe
from rules.commands.base import RunTasks
from rules.example import example
from rules.host import progress
from rules.host.reporter import show_error
from rules.project import config, leftovers, lock, locked, relock, sources
from rules.project.input_signatures import check_signers

if TYPE_CHECKING:
    from aicert.sources.compare import Comparison


class Lock(RunTasks):
    """Write the lockfiles, or only compare them."""

    name = "lock"
    doc_purpose = "resolve inputs, write lockfiles/ and print PCR 14 of each run"
    doc_usage = "[RUN …]"
    doc_description = """\
Writes lockfiles/RUN.lock.toml, and the listings of directories in
lockfiles/RUN/. Inputs in this repository are hashed. Other sources are resolved
only if they are new or changed in aicert.toml; otherwise they keep their pin.
If no run could use the config, it is refused and nothing is written. Review
the change and commit it: a certificate says that a machine measured exactly
this.

  ./doit lock && git diff lockfiles/
  ./doit lock --check    # ask every source; exit 1 if something differs

--check writes no lockfile. It says for each input what was compared: a web
server may tell no more than a size. It makes the shipped example's inputs if
they are needed and missing.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        *RunTasks.cmd_options,
        {
            "name": "check",
            "short": "",
            "long": "check",
            "type": bool,
            "default": False,
            "help": "resolve again and compare, but write nothing",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Lock or check the named runs; without names, every run."""
        root = Path.cwd()
        project = config.load(root)
        runs = [project.run(name) for name in args] or list(project.runs.values())
        if not params["check"]:
            code = super().execute(params, [f"lock:{run.name}" for run in runs])
            if gone := leftovers.of(root, project):
                progress.say(
                    f"left over from runs that no longer exist: {', '.join(gone)}; ./doit prune"
                )
            return code
        example.make_example(root)
        codes = {_check(root, run) for run in runs}
        return min((code for code in codes if code), default=0)


def _check(root: Path, run: config.Run) -> int:
    """Check a run. Returns 0 if its lockfile matches the bytes here and the sources, 1 if it does
    not, 2 if that is unknown.
    """
    try:
        current = lock.current(root, run)
        check_signers(root, current)
        comparisons = _compared(root, run.name, current)
    except AicertError as error:
        sys.stdout.flush()
        show_error(error)
        return 2 if isinstance(error, ToolError) else 1
    if any(one.verdict != "ok" for one in comparisons):
        return _differing(run.name, comparisons)
    relock.show_lock(root, run.name, current.data, "fresh")
    for one in comparisons:
        # How much could be compared depends on the source: a server may give no more than a size.
        print(f"{'':<10} input {one.name}: {safe(one.detail, 400)}", flush=True)
    return 0


def _compared(root: Path, run: str, current: locked.Lock) -> "list[Comparison]":
    asked = [item for item in current.lockfile.inputs if not sources.is_local(item.source)]
    if not asked:
        return []
    from aicert.sources.compare import Asker
    from aicert.sources.transfer import Transfer

    with progress.task(f"{run}: asking sources", unit="B") as bar:
        with Transfer(sources.store(root), on_bytes=bar.advance) as transfer:
            asker = Asker(transfer=transfer, pinned=False)
            return [asker.compare(item) for item in asked]


def _differing(run: str, comparisons: "list[Comparison]") -> int:
    from aicert.sources.compare import exit_code

    sys.stdout.flush()
    for one in comparisons:
        if one.verdict != "ok":
            message = f"run {run}: input {one.name}: {one.detail}"
            show_error(LockError(message, hint=one.hint))
    return exit_code(comparisons)
