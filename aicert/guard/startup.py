"""Run by `aicert-guard.pth` at each start of a Python that has it, if `AICERT_GUARD` is set.

Python continues after an error in a `.pth`, so whatever goes wrong here ends the process. If the
guarded program does not catch an error of the guard, that error is shown as `aicert` shows errors,
with its exit code.
"""

import os
import sys
from types import TracebackType
from typing import NoReturn

from aicert.errors import AicertError
from aicert.guard.copies import VARIABLE as COPY_VARIABLE
from aicert.guard.hooks import VARIABLE, enable
from aicert.text import error_lines


def _end(error: AicertError) -> NoReturn:
    sys.stderr.write(error_lines(f"aicert guard: {error.message}", error.hint))
    sys.stderr.flush()
    os._exit(error.exit_code)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, AicertError):
        sys.stderr.write(error_lines(f"aicert guard: {error.message}", error.hint))
        sys.exit(error.exit_code)
    sys.__excepthook__(kind, error, trace)


def start() -> None:
    """Guard this process with the policy that the variable names."""
    try:
        enable(os.environ[VARIABLE], copy=bool(os.environ.get(COPY_VARIABLE)))
    except AicertError as error:
        _end(error)
    sys.excepthook = _show


start()
