"""`./doit why [RUN…]`."""

import contextlib
from pathlib import Path
from typing import Any

from aicert.cli import terminal
from aicert.errors import AicertError
from aicert.text import safe
from rules.commands.base import Command
from rules.host.terminal import fitted
from rules.image import tasks
from rules.project import config, lock, sources
from rules.runs import certify, failed


class Why(Command):
    """Say what certify would do, and which digest is the reason."""

    name = "why"
    doc_purpose = "say what certify would run, and which digest is the reason"
    doc_usage = "[RUN …]"
    doc_description = """\
Makes the same comparisons as certify, but starts nothing. The exit code is 0, or 3 if there is
no such run.

  ./doit why tiny-alpaca
"""

    def execute(self, params: Any, args: list[str]) -> int:
        """Explain the named runs; without names, every run."""
        root = Path.cwd()
        project = config.load(root)
        runs = [project.run(name) for name in args] or list(project.runs.values())
        terminal.write("".join(_explain(root, project, run) for run in runs))
        return 0


def _explain(root: Path, project: config.Project, run: config.Run) -> str:
    for name in sorted({name for i in run.inputs if (name := sources.run_of(i.source))}):
        other = project.runs.get(name)
        if other is not None and certify.why(root, other, None) is not None:
            return f"{run.name}: waits for run {name}, which is not up to date\n"
    reason = certify.why(root, run, None)
    if reason is None:
        return f"{run.name}: up to date{_moved(root, run)}\n"
    word = "would stop" if reason.stops else "would run"
    explanation = f"{run.name}: {word}: {reason.text}".split("\n")
    lines = [part for line in explanation for part in fitted(safe(line, 400))]
    if not reason.stops and _failed_as_it_is(root, run):
        lines.append(
            f"it failed, and {failed.UNCHANGED}: only ./doit certify {run.name} trains it again"
        )
    if reason.hint:
        lines.append(f"hint: {safe(reason.hint, 400)}")
    return "".join(f"{line}\n" for line in lines)


def _failed_as_it_is(root: Path, run: config.Run) -> bool:
    """Whether a bare `./doit certify` skips the run, because it would fail again."""
    with contextlib.suppress(AicertError):
        return failed.is_known(root, run, lock.current(root, run))
    return False


def _moved(root: Path, run: config.Run) -> str:
    """Return a note that a new image exists; that alone is no reason to train again."""
    if not run.machine.driver.in_image:
        return ""
    with contextlib.suppress(AicertError):
        if tasks.is_current(root, gpu=run.machine.gpu, tools=run.machine.tools):
            return ""
    return (
        f"; the image built here is not from this code: ./doit certify {run.name} --again"
        " would use a new one"
    )
