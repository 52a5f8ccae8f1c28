"""Misspelt names: what was probably meant, and the corrected command line."""

import difflib
from collections.abc import Iterable

from aicert.errors import ConfigError


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that `name` was probably meant to be; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(valid), 1)), None)


def suggestion(name: str, valid: Iterable[str]) -> str:
    """Return the end of an error about a name that is not valid."""
    names = list(valid)
    close = nearest(name, names)
    if close is not None:
        return f", did you mean {close!r}?"
    return f"; valid names: {', '.join(sorted(names))}" if names else ""


class UnknownNameError(ConfigError):
    """A command line names something unknown. The command adds the hint: itself with `near`."""

    def __init__(self, owner: str, kind: str, name: str, valid: Iterable[str]) -> None:
        names = list(valid)
        super().__init__(f"{owner} has no {kind} {name!r}{suggestion(name, names)}")
        self.name = name
        self.near = nearest(name, names)
