"""Names that somebody misspelt: what was meant, and the command line that says so."""

import difflib
from collections.abc import Iterable

from aicert.errors import ConfigError


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that `name` may be meant for."""
    return next(iter(difflib.get_close_matches(name, list(valid), 1)), None)


def suggestion(name: str, valid: Iterable[str]) -> str:
    """What an error says after a name that is none of the valid ones."""
    names = list(valid)
    close = nearest(name, names)
    if close is not None:
        return f", did you mean {close!r}?"
    return f"; there is: {', '.join(sorted(names))}" if names else ""


class UnknownNameError(ConfigError):
    """A command line names what is not there. The command gives the hint: itself with `near`."""

    def __init__(self, owner: str, kind: str, name: str, valid: Iterable[str]) -> None:
        names = list(valid)
        super().__init__(f"{owner} has no {kind} {name!r}{suggestion(name, names)}")
        self.name = name
        self.near = nearest(name, names)
