"""pyarrow, where a file needs it: the extra `records`."""

import importlib
from typing import Any

from aicert.errors import ConfigError


def pyarrow(what: str, module: str = "pyarrow") -> Any:
    """pyarrow or one of its modules; a ConfigError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"reading {what} files needs pyarrow, which is not installed",
            hint="in a checkout of this project: pip install '.[records]'",
        ) from None
