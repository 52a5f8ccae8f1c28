"""Load `dodo.py` so that an AicertError never becomes a traceback.

doit turns an exception in an action into text, and one in an `uptodate` check or a task creator
into a traceback and exit 3. Here actions are wrapped (rules.host.reporter.refusing). An error from
a creator or a check is printed, and doit ends with the error's own exit code.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doit.action import PythonAction
from doit.cmd_base import DodoTaskLoader

from aicert.errors import AicertError
from rules.host.os_errors import explained
from rules.host.reporter import refusing, show_error

# doit and the digest cache store only caches here, never evidence.
STATE = Path(".aicert")


def ending(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function`: an AicertError or a system error is shown and ends the process with its exit
    code.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AicertError as error:
            show_error(error)
            sys.exit(error.exit_code)
        except OSError as error:
            failure = explained(error)
            show_error(failure)
            sys.exit(failure.exit_code)

    return wrapped


class Loader(DodoTaskLoader):
    """doit's own loader of `dodo.py`, with AicertErrors told apart from bugs."""

    cmd_names: list[str]

    @ending
    def setup(self, opt_values: dict[str, Any]) -> None:
        """Import `dodo.py`; doit's database needs its directory by then."""
        STATE.mkdir(exist_ok=True)
        # doit puts the repository's folder first on the path, where the owner's `rich.py` would
        # hide the library. So our modules are loaded first, and the folder goes last.
        for name in ("rules.tasks", "rules.image.tasks"):
            importlib.import_module(name)
        before = list(sys.path)
        super().setup(opt_values)
        sys.path[:] = [*before, *(place for place in sys.path if place not in before)]

    @ending
    def load_tasks(self, cmd: Any, pos_args: list[str]) -> list[Any]:
        """Run the task creators."""
        # doit refuses a task named like a command. Ours mean the same on purpose (`./doit certify`
        # runs the tasks `certify:RUN`), and the command always wins.
        names, self.cmd_names = self.cmd_names, []
        tasks: list[Any] = super().load_tasks(cmd, pos_args)
        self.cmd_names = names
        for task in tasks:
            for action in (*task.actions, *task.teardown):
                if isinstance(action, PythonAction):
                    action.py_callable = refusing(action.py_callable)
            # Bars are drawn many times a second, and nobody needs a copy in memory.
            task.io.capture = False
            task.uptodate = [
                (ending(check) if callable(check) else check, args, kwargs)
                for check, args, kwargs in task.uptodate
            ]
        return tasks
