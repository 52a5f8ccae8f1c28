"""How doit's progress and errors look: on stderr, one line per task, no traceback for user errors.

stdout is reserved for what a command prints. An AicertError is shown as `error:` and `hint:`.
`Reporter.exit_code` is that of the first failed task (the AicertError's own, otherwise 2: no
verdict). Any other exception is a bug of ours and keeps its traceback.
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
    """A task failed with an AicertError, which doit itself would reduce to a traceback."""

    def __init__(self, error: AicertError) -> None:
        super().__init__(error.message)
        self.error = error


def show_error(error: AicertError, stream: TextIO | None = None, *, word: str = "error") -> None:
    """Print `error:` and `hint:` lines. The message may quote hostile text, so it is escaped."""
    stream = stream or sys.stderr
    lines = [safe(line, MAX_MESSAGE) for line in error.message.split("\n")]
    lines[0] = f"{word}: {lines[0]}"
    if error.hint:
        lines.append(f"hint: {safe(error.hint, MAX_MESSAGE)}")
    # If stderr is closed or full, the exit code must be enough.
    with contextlib.suppress(OSError, ValueError):
        stream.write("\n".join(lines) + "\n")
        stream.flush()


def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a task's action so that the reporter gets an AicertError intact, and a system error in
    words.
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
    """One line per task on stderr, and a message if there was nothing to do."""

    desc = "one line per task, on stderr"

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        super().__init__(sys.stderr, options)
        self.exit_code = 0
        self.executed: list[str] = []
        self.current = 0

    def execute_task(self, task: Any) -> None:
        """doit starts a task."""
        if task.actions and not task.name.startswith("_"):
            self.executed.append(task.name)
            self._line("run", task.title())

    def skip_uptodate(self, task: Any) -> None:
        """doit skips a task that is up to date."""
        if task.actions and not task.name.startswith("_"):
            self.current += 1
            self._line("ok", f"{task.title()}: up to date")

    def skip_ignore(self, task: Any) -> None:
        """doit skips a task because somebody ran `doit ignore`."""
        self._line("skip", f"{task.title()}: ignored; `./doit forget {task.name}` undoes that")

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
        """doit itself failed."""
        self.exit_code = self.exit_code or 3
        self.write(f"error: {safe(msg, MAX_MESSAGE)}\n")

    def cleanup_error(self, exception: Any) -> None:
        """A teardown action failed: the result stands, but report what was left behind."""
        self.exit_code = self.exit_code or 2
        self.write(f"error: {safe(exception.get_msg(), MAX_MESSAGE)}\n")

    def complete_run(self) -> None:
        """doit has finished all tasks."""
        if self.current and not self.executed and not self.exit_code:
            self.write("nothing to do: everything is up to date\n")

    def _line(self, word: str, text: str) -> None:
        self.write(f"{word:<5} {safe(text, 200)}\n")
        self.outstream.flush()
