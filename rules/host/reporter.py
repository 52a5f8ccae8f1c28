"""How doit's progress and errors look: on stderr, one line a task, no traceback for a user's error.

Promises: stdout is left to what a command prints; an AicertError is shown as `error:` and `hint:`;
`Reporter.exit_code` is that of the first task that failed (AicertError's own, else 2: no verdict).
An exception that is not an AicertError is a defect of ours and keeps its traceback.
"""

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, TextIO

from doit.exceptions import BaseFail, TaskFailed
from doit.reporter import ConsoleReporter

from aicert.errors import AicertError
from aicert.text import safe
from rules.host.os_errors import explained

MAX_MESSAGE = 4000


class Refused(TaskFailed):
    """The failure of a task by an AicertError, which doit itself would reduce to a traceback."""

    def __init__(self, error: AicertError) -> None:
        super().__init__(error.message)
        self.error = error


def show_error(error: AicertError, stream: TextIO | None = None, *, word: str = "error") -> None:
    """Print `error:` and `hint:` lines. The message may quote hostile text: it is escaped."""
    stream = stream or sys.stderr
    lines = [safe(line, MAX_MESSAGE) for line in error.message.split("\n")]
    lines[0] = f"{word}: {lines[0]}"
    if error.hint:
        lines.append(f"hint: {safe(error.hint, MAX_MESSAGE)}")
    # Where stderr is closed or full, only the exit code is left to say it.
    with contextlib.suppress(OSError, ValueError):
        stream.write("\n".join(lines) + "\n")
        stream.flush()


def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a task's action so that an AicertError reaches the reporter whole, and an error of the
    system's in words.
    """

    @functools.wraps(function)
    def action(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AicertError as error:
            return Refused(error)
        except BrokenPipeError:
            raise
        except OSError as error:
            return Refused(explained(error))

    return action


class Reporter(ConsoleReporter):
    """One line for each task on stderr, and a plain word when there was nothing to do."""

    desc = "one line a task, on stderr"

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        super().__init__(sys.stderr, options)
        self.exit_code = 0
        self.executed: list[str] = []
        self.current = 0

    def execute_task(self, task: Any) -> None:
        """A task starts."""
        if task.actions and not task.name.startswith("_"):
            self.executed.append(task.name)
            self._line("run", task.title())

    def skip_uptodate(self, task: Any) -> None:
        """A task was found up to date."""
        if task.actions and not task.name.startswith("_"):
            self.current += 1
            self._line("ok", f"{task.title()}: up to date")

    def skip_ignore(self, task: Any) -> None:
        """A task is ignored because somebody ran `doit ignore`."""
        self._line("skip", f"{task.title()}: ignored; `./doit forget {task.name}` ends that")

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task failed: show why at once, and keep the first exit code."""
        if isinstance(fail, Refused):
            show_error(fail.error)
            self.exit_code = self.exit_code or fail.error.exit_code
            return
        self.exit_code = self.exit_code or 2
        if fail.report:
            self.write(f"error: {task.name}: {safe(fail.message, MAX_MESSAGE)}\n")
            self.write("".join(fail.traceback))

    def runtime_error(self, msg: str) -> None:
        """Doit itself could not go on."""
        self.exit_code = self.exit_code or 3
        self.write(f"error: {safe(msg, MAX_MESSAGE)}\n")

    def cleanup_error(self, exception: Any) -> None:
        """A teardown action failed: the result stands, what is left behind is said."""
        self.exit_code = self.exit_code or 2
        self.write(f"error: {safe(exception.get_msg(), MAX_MESSAGE)}\n")

    def complete_run(self) -> None:
        """All tasks are through."""
        if self.current and not self.executed and not self.exit_code:
            self.write("nothing to do: everything is up to date\n")

    def _line(self, word: str, text: str) -> None:
        self.write(f"{word:<5} {safe(text, 200)}\n")
        self.outstream.flush()
