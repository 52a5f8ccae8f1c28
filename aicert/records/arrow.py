"""Import pyarrow only when a file needs it; the extra `records` installs it."""

import importlib
from typing import Any

from aicert.errors import ConfigError


def pyarrow(what: str, module: str = "pyarrow") -> Any:
    """Import pyarrow or one of its modules; ConfigError if it is not installed.

    `what`: the kind of file that needs it, for the message.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"reading {what} files needs pyarrow, which is not installed",
            hint="in a checkout of this project: pip install '.[records]'",
        ) from None
