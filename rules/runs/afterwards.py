"""What follows a certified run: DVC's tracking and the exports. Neither affects the exit code.

Once certificate and outputs are in place, the run has succeeded. If something fails after that, a
warning gives the cause and a command, and the next `./doit certify` tries again. Hours of training
must not count as a failure because a package index did not answer. For the same reason DVC's
environment is made before the training, while the user is still watching.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aicert.errors import AicertError, ToolError
from rules.dvc import environment, tracking
from rules.host.progress import say
from rules.host.reporter import show_error
from rules.project import results
from rules.project.config import Project
from rules.runs import exports

# Why DVC's environment could not be made in this process: do not wait for the same network twice.
_without_dvc: list[str] = []


def prepare(root: Path) -> None:
    """Make DVC's environment if it is missing and the run's outputs will be tracked."""
    if not tracking.is_on(root):
        return
    try:
        environment.program()
    except (ToolError, OSError) as error:
        cause = error.message if isinstance(error, ToolError) else str(error)
        _without_dvc.append(cause)
        message = f"the run continues without DVC, which can track its outputs later: {cause}"
        show_error(ToolError(message, hint=getattr(error, "hint", None)), word="warning")


def track(root: Path, project: Project) -> None:
    """Let DVC track what it does not have yet. If that is impossible, the reason is given once."""
    if _without_dvc:
        raise ToolError("DVC's environment could not be made (the reason is given above)")
    tracking.track(root, project)


def attempt(run: str, what: str, action: Callable[..., Any], *args: Any) -> None:
    """Do a step that follows the certified `run`. A failure is a warning with its cause."""
    try:
        action(*args)
    except (AicertError, OSError) as error:
        cause = error.message if isinstance(error, AicertError) else str(error)
        hint = getattr(error, "hint", None) or f"./doit certify {run}  # tries again"
        message = f"run {run} is in place, but not {what}: {cause}"
        show_error(ToolError(message, hint=hint), word="warning")


def left(root: Path, project: Project, names: list[str]) -> list[str]:
    """Return what remains to be done after the runs `names`, in words."""
    undone = []
    for name in names:
        run = project.runs[name]
        if not tracking.is_tracked(root, project, run):
            undone.append(f"{name}: not tracked by DVC yet")
        if not exports.are_written(results.certificate_path(root, name)):
            undone.append(f"{name}: its exports are not written yet")
    return undone


def tell(root: Path, project: Project, names: list[str]) -> None:
    """Print the last line of a certify that succeeded but has something left to do."""
    for line in left(root, project, names):
        say(f"{line}; ./doit certify {line.partition(':')[0]} tries again")
